"""JSON and JSONL. An array is read item by item, so it may be longer than memory; an object is read whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from empu.data.formats.encoding import Encoding, open_text
from empu.data.formats.table import CandidateFile, Table
from empu.data.rows import DataError, RawRecord

CHUNK_CHARS = 1 << 20
MAX_ITEM_CHARS = 64 << 20
"""Longest single item of an array."""
MAX_DOCUMENT_BYTES = 512 << 20
"""Largest file whose one object is read whole."""
SPACE = " \t\r\n"
LINE_SUFFIXES = {".jsonl", ".ndjson"}


class JsonLinesFormat:
    """JSONL: one object a line."""

    name = "jsonl"

    def matches(self, file: CandidateFile) -> bool:
        if not _is_json(file):
            return False
        start = file.text_start.lstrip(SPACE + "\ufeff")
        is_lines = file.suffix in LINE_SUFFIXES or _looks_like_lines(file.path, file.encoding)
        if is_lines and start.startswith("[") and file.suffix != ".json":
            return start[1:].lstrip()[:1] not in ("{", "]", "")  # one array after all
        return is_lines

    def open(self, file: CandidateFile) -> list[Table]:
        path, encoding = file.path, file.encoding
        return [
            Table(path, self.name, lambda columns: read_lines(path, encoding), encoding, notes=file.encoding_notes())
        ]


class JsonFormat:
    """JSON: an array of objects, or an object in one of the shapes that :func:`read_document` reads."""

    name = "json"

    def matches(self, file: CandidateFile) -> bool:
        return _is_json(file)

    def open(self, file: CandidateFile) -> list[Table]:
        path, encoding = file.path, file.encoding
        return [
            Table(path, self.name, lambda columns: read_document(path, encoding), encoding, notes=file.encoding_notes())
        ]


def _is_json(file: CandidateFile) -> bool:
    if file.suffix in {".json", *LINE_SUFFIXES}:
        return True
    return file.text_start.lstrip(SPACE + "\ufeff")[:1] in ("{", "[") and file.suffix not in {".csv", ".tsv"}


class _ConstantError(ValueError):
    """NaN and infinities, which Python's parser accepts and JSON does not have."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(f"{name} is not JSON")


class _RepeatedKeys(dict[str, Any]):
    """An object in which a key occurs twice, at any depth. ``key`` is the first such key."""

    key = ""


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    key = None
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for name in names if names.count(name) > 1)
    for inner in value.values():
        for item in inner if isinstance(inner, list) else (inner,):
            if isinstance(item, _RepeatedKeys):
                key = key or item.key
    if key is None:
        return value
    repeated = _RepeatedKeys(value)
    repeated.key = key
    return repeated


DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object_of_pairs)


def _looks_like_lines(path: Path, encoding: Encoding) -> bool:
    """Whether the first line that is not empty is a JSON value of its own and another line follows it."""
    with open_text(path, encoding) as text:
        first = ""
        while not first.strip():
            line = text.readline(MAX_ITEM_CHARS)
            if not line:
                return False
            first = line
        if first.lstrip().startswith("["):
            return False
        try:
            DECODER.decode(first.strip())
        except (ValueError, RecursionError):
            return first.lstrip().startswith("{") and first.strip() != "{" and '"' in text.readline(200)[:2]
        return any(line.strip() for line in text)


def read_lines(path: Path, encoding: Encoding) -> Iterator[RawRecord]:
    """Yield the records of JSONL, one object a line. Empty lines are skipped and counted."""
    with open_text(path, encoding) as text:
        number = 0
        while line := text.readline(MAX_ITEM_CHARS):
            number += 1
            if not line.strip():
                continue
            try:
                value = DECODER.decode(line.strip())
            except (ValueError, RecursionError) as error:
                yield RawRecord(number, {}, f"it is not JSON ({_short(error)})")
            else:
                yield _record(number, value)


def read_document(path: Path, encoding: Encoding) -> Iterator[RawRecord]:
    """Yield the records of an array of objects, or of an object in one of the shapes of :data:`SHAPES`."""
    with open_text(path, encoding) as text:
        start = text.read(CHUNK_CHARS)
        while start.isspace() and (more := text.read(CHUNK_CHARS)):
            start = more
        if start.lstrip(SPACE + "\ufeff").startswith("["):
            yield from _array(path, start.lstrip(SPACE + "\ufeff")[1:], text.read)
            return
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        raise DataError(
            f"{path} is one object of more than {MAX_DOCUMENT_BYTES >> 20} MiB; save it as JSONL, an object a line."
        )
    with open_text(path, encoding) as text:
        try:
            value = DECODER.decode(text.read().strip(SPACE + "\ufeff"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON ({_short(error)}); correct it, or save it as JSONL.") from error
    yield from _object(path, value)


def _array(path: Path, buffer: str, read: Any) -> Iterator[RawRecord]:
    """Yield the items of an array after its opening bracket; ``read(n)`` returns up to n characters."""
    number, at, ended = 0, 0, False

    def fill() -> None:
        nonlocal buffer, at, ended
        chunk = read(max(CHUNK_CHARS, len(buffer) - at))
        buffer, at, ended = buffer[at:] + chunk, 0, not chunk

    def skip() -> str:
        """Move to the next character that is not white space and return it; an empty string at the end."""
        nonlocal at
        while True:
            while at < len(buffer) and buffer[at] in SPACE:
                at += 1
            if at < len(buffer) or ended:
                return buffer[at : at + 1]
            fill()

    def problem_at(problem: str) -> DataError:
        return DataError(
            f"{path}, item {number + 1}: {problem}; correct it, or save the file as JSONL, an object a line."
        )

    if skip() == "]":
        at += 1
    else:
        while True:
            skip()
            while True:
                try:
                    value, end = DECODER.raw_decode(buffer, at)
                    if end < len(buffer) or ended:
                        break
                except _ConstantError as error:
                    raise problem_at(str(error)) from error
                except (ValueError, RecursionError) as error:
                    is_final = (
                        isinstance(error, json.JSONDecodeError) and error.pos < len(buffer) - 16 and _is_certain(error)
                    )
                    if ended or is_final or isinstance(error, RecursionError):
                        raise problem_at(f"it is not JSON ({_short(error)})") from error
                if len(buffer) - at > MAX_ITEM_CHARS:
                    raise problem_at(f"it is longer than {MAX_ITEM_CHARS >> 20} million characters")
                fill()
            at = end
            number += 1
            yield _record(number, value)
            separator = skip()
            at += 1
            if separator == "]":
                break
            if separator != ",":
                raise problem_at("a comma is missing before it" if separator else "the array is never closed")
    if skip():
        raise DataError(f"{path}: something follows the end of the array; save it as one array, or as JSONL.")


def _is_certain(error: json.JSONDecodeError) -> bool:
    """Whether more text cannot remove the error. A string or an item that is cut off is reported at its beginning."""
    return not error.msg.startswith(("Unterminated string", "Expecting value"))


def _object(path: Path, value: object) -> Iterator[RawRecord]:
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {_type_name(value)} where an array of objects is expected; save it as JSONL.")
    if not _is_row(value):
        for shape in SHAPES:
            if (records := shape(value)) is not None:
                yield from (_record(number, record) for number, record in enumerate(records, 1))
                return
        if (problem := _unread_shape(value)) is not None:
            raise DataError(f"{path} {problem}")
    yield _record(1, value)


def _is_row(value: Mapping[str, Any]) -> bool:
    """Whether an object is itself a row: its only array is a conversation."""
    return any(name in value for name in ("messages", "conversations", "chosen"))


def _wrapped_array(value: Mapping[str, Any]) -> Sequence[Any] | None:
    """``{"version": 1, "data": [{...}]}``, with the array at any depth of single keys."""
    arrays = [inner for inner in value.values() if _is_array_of_objects(inner)]
    if len(arrays) == 1:
        return arrays[0]  # type: ignore[no-any-return]
    if len(value) == 1 and isinstance(only := next(iter(value.values())), dict):
        return _wrapped_array(only)
    return None


def _columns_of_lists(value: Mapping[str, Any]) -> Sequence[Any] | None:
    """``{"text": ["a", "b"], "label": ["x", "y"]}``."""
    lists = list(value.values())
    if not lists or not all(isinstance(inner, list) for inner in lists) or len({len(inner) for inner in lists}) != 1:
        return None
    if any(_is_array_of_objects(inner) for inner in lists):
        return None
    return [dict(zip(value, items, strict=True)) for items in zip(*lists, strict=True)]


def _split_orientation(value: Mapping[str, Any]) -> Sequence[Any] | None:
    """pandas' ``orient="split"``: ``{"columns": [...], "index": [...], "data": [[...], ...]}``."""
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return None
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        return None
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]


def _columns_of_objects(value: Mapping[str, Any]) -> Sequence[Any] | None:
    """pandas' default, ``orient="columns"``: ``{"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}``."""
    columns = list(value.values())
    if len(columns) < 2 or not all(isinstance(column, dict) and column for column in columns):
        return None
    index = list(columns[0])
    if any(list(column) != index for column in columns) or not all(key.lstrip("-").isdigit() for key in index):
        return None
    return [{name: column[key] for name, column in value.items()} for key in index]


def _rows_by_key(value: Mapping[str, Any]) -> Sequence[Any] | None:
    """pandas' ``orient="index"``, or rows under their ids: ``{"0": {"text": "a", "label": "x"}, ...}``."""
    rows = list(value.values())
    if len(rows) < 2 or not all(isinstance(row, dict) and len(row) > 1 for row in rows):
        return None
    shared = set(rows[0]).intersection(*rows[1:])
    return rows if len(shared) > 1 else None


SHAPES: tuple[Callable[[Mapping[str, Any]], Sequence[Any] | None], ...] = (
    _split_orientation,
    _wrapped_array,
    _columns_of_lists,
    _columns_of_objects,
    _rows_by_key,
)
"""Shapes of a document that hold rows; each gives the rows, or ``None`` if the document has another shape."""


def _unread_shape(value: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a document that holds arrays or objects but no rows that can be read."""
    arrays = [name for name, inner in value.items() if _is_array_of_objects(inner)]
    lists = {name: inner for name, inner in value.items() if isinstance(inner, list)}
    if len(arrays) > 1:
        return f"holds several arrays ({', '.join(arrays)}); save each as a file of its own."
    if len(lists) < len(value) or not lists:
        return None
    lengths = ", ".join(f"{name} {len(inner)}" for name, inner in lists.items())
    if all(isinstance(item, list) for inner in lists.values() for item in inner):
        return (
            f"holds arrays of rows without column names ({lengths}); save each as a CSV file of its own with a header, "
            "such as train.csv and test.csv in one folder."
        )
    return f"holds columns of different lengths ({lengths}); make them equal, or save it as JSONL."


def _is_array_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _record(number: int, value: object) -> RawRecord:
    if isinstance(value, _RepeatedKeys):
        return RawRecord(number, {}, f"it has the key {value.key!r} twice")
    if isinstance(value, dict):
        return RawRecord(number, value)
    return RawRecord(number, {}, f"it is {_type_name(value)} where an object is expected")


def _type_name(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "null")


def _short(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[0].lower()}{error.msg[1:]}, character {error.pos + 1}"
    return str(error)[:100]
