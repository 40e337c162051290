"""JSON and JSONL. An array is read item by item, so that it may be longer than memory; an object is read whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from empu.data.formats.encoding import Encoding, open_text
from empu.data.rows import DataError, Raw

CHUNK_CHARS = 1 << 20
ITEM_CHARS = 64 << 20
"""Longest single item of an array."""
WHOLE_BYTES = 512 << 20
"""Largest file whose one object is read whole."""
SPACE = " \t\r\n"


class _ConstantError(ValueError):
    """NaN and infinities, which Python's reader takes and JSON does not have."""


def _refuse(name: str) -> NoReturn:
    raise _ConstantError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse)


def looks_like_lines(path: Path, encoding: Encoding) -> bool:
    """Whether the first line that is not empty is a JSON value of its own and another line follows it."""
    with open_text(path, encoding) as text:
        first = ""
        while not first.strip():
            line = text.readline(ITEM_CHARS)
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


def read_lines(path: Path, encoding: Encoding) -> Iterator[Raw]:
    """JSONL: an object a line. Empty lines are passed over, and counted."""
    with open_text(path, encoding) as text:
        number = 0
        while line := text.readline(ITEM_CHARS):
            number += 1
            if not line.strip():
                continue
            try:
                value = DECODER.decode(line.strip())
            except (ValueError, RecursionError) as error:
                yield Raw(number, {}, f"it is not JSON ({_short(error)})")
            else:
                yield _raw(number, value)


def read_document(path: Path, encoding: Encoding) -> Iterator[Raw]:
    """An array of objects, an object with one such array in it, or an object of columns."""
    with open_text(path, encoding) as text:
        start = text.read(CHUNK_CHARS)
        while start.isspace() and (more := text.read(CHUNK_CHARS)):
            start = more
        if start.lstrip(SPACE + "\ufeff").startswith("["):
            yield from _array(path, start.lstrip(SPACE + "\ufeff")[1:], text.read)
            return
    if path.stat().st_size > WHOLE_BYTES:
        raise DataError(
            f"{path} is one object of more than {WHOLE_BYTES >> 20} MiB; save it as JSONL, an object a line."
        )
    with open_text(path, encoding) as text:
        try:
            value = DECODER.decode(text.read().strip(SPACE + "\ufeff"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON ({_short(error)}); mend it, or save it as JSONL.") from error
    yield from _object(path, value)


def _array(path: Path, buffer: str, more: Any) -> Iterator[Raw]:
    """The items of an array whose opening bracket is behind us; ``more(n)`` gives up to n characters."""
    number, at, ended = 0, 0, False

    def fill() -> None:
        nonlocal buffer, at, ended
        chunk = more(max(CHUNK_CHARS, len(buffer) - at))
        buffer, at, ended = buffer[at:] + chunk, 0, not chunk

    def skip() -> str:
        """Go to the next character that is not white space, and give it; an empty string at the end."""
        nonlocal at
        while True:
            while at < len(buffer) and buffer[at] in SPACE:
                at += 1
            if at < len(buffer) or ended:
                return buffer[at : at + 1]
            fill()

    def broken(problem: str) -> DataError:
        return DataError(f"{path}, item {number + 1}: {problem}; mend it, or save the file as JSONL, an object a line.")

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
                    raise broken(str(error)) from error
                except (ValueError, RecursionError) as error:
                    late = isinstance(error, json.JSONDecodeError) and error.pos < len(buffer) - 16 and _certain(error)
                    if ended or late or isinstance(error, RecursionError):
                        raise broken(f"it is not JSON ({_short(error)})") from error
                if len(buffer) - at > ITEM_CHARS:
                    raise broken(f"it is longer than {ITEM_CHARS >> 20} million characters")
                fill()
            at = end
            number += 1
            yield _raw(number, value)
            mark = skip()
            at += 1
            if mark == "]":
                break
            if mark != ",":
                raise broken("a comma is missing before it" if mark else "the array is never closed")
    if skip():
        raise DataError(f"{path}: something follows the end of the array; save it as one array, or as JSONL.")


def _certain(error: json.JSONDecodeError) -> bool:
    """Whether more text could not mend the error. A string or an item that is cut off is reported at its beginning."""
    return not error.msg.startswith(("Unterminated string", "Expecting value"))


def _object(path: Path, value: object) -> Iterator[Raw]:
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {_named(value)} where an array of objects is expected; save it as JSONL.")
    lists = {name: inner for name, inner in value.items() if isinstance(inner, list)}
    of_objects = {name: inner for name, inner in lists.items() if inner and all(isinstance(i, dict) for i in inner)}
    if len(of_objects) == 1 and not _one_row(value):
        for number, item in enumerate(next(iter(of_objects.values())), 1):
            yield _raw(number, item)
    elif len(of_objects) > 1 and not _one_row(value):
        names = ", ".join(of_objects)
        raise DataError(f"{path} holds several arrays ({names}); save the one that you mean as its own file.")
    elif lists and len(lists) == len(value) and len({len(inner) for inner in lists.values()}) == 1:
        for number, items in enumerate(zip(*lists.values(), strict=True), 1):
            yield Raw(number, dict(zip(lists, items, strict=True)))
    elif lists and len(lists) == len(value) and not of_objects:
        lengths = ", ".join(f"{name} {len(inner)}" for name, inner in lists.items())
        raise DataError(f"{path} holds columns of different lengths ({lengths}); make them equal, or save it as JSONL.")
    else:
        yield _raw(1, value)


def _one_row(value: dict[str, Any]) -> bool:
    """Whether an object is itself a row: its only array is a conversation."""
    return any(name in value for name in ("messages", "conversations", "chosen"))


def _raw(number: int, value: object) -> Raw:
    if isinstance(value, dict):
        return Raw(number, value)
    return Raw(number, {}, f"it is {_named(value)} where an object is expected")


def _named(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "null")


def _short(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[0].lower()}{error.msg[1:]}, character {error.pos + 1}"
    return str(error)[:100]
