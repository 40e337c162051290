"""Data files of suites: where they are, and their records, whatever the container."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from empu.errors import MissingDependencyError, UsageError

csv.field_size_limit(1 << 24)
_GIT_LFS = "version https://git-lfs"
_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress}


def find_files(path: Path, folders: Sequence[str], patterns: Sequence[str]) -> list[Path]:
    """Return the files of the first pattern that matches in ``path`` or in one of its sub-folders.

    For the path of a file, they are searched beside it. Raises :class:`~empu.errors.UsageError` without such a path.
    """
    if path.is_file():
        places = [path.parent, path.parent.parent]
    elif path.is_dir():
        places = [*(path / folder for folder in folders), path]
    else:
        raise UsageError(f"{path} does not exist; --data takes a file or a folder.")
    for pattern in patterns:
        for place in places:
            if found := [file for file in sorted(place.glob(pattern)) if file.is_file() and not _is_pointer(file)]:
                return found
    return []


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON Lines, JSON, CSV, TSV or Parquet file; ``.gz`` and ``.bz2`` are unpacked."""
    kind = Path(path.stem).suffix.lower() if path.suffix in _UNPACK else path.suffix.lower()
    if kind == ".parquet":
        yield from _read_parquet(path)
        return
    text = read_text(path)
    if kind in {".csv", ".tsv"}:
        yield from csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        yield from _parse_json(path, text)
    else:
        yield from _parse_json_lines(path, text)


def read_cells(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV or TSV file without a header."""
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    yield from csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)


def read_text(path: Path) -> str:
    """Return the content of a text file, unpacked. Raises :class:`~empu.errors.UsageError`."""
    try:
        data = path.read_bytes()
        unpack = _UNPACK.get(path.suffix)
        return (data if unpack is None else unpack(data)).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read ({error}).") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; give the suite's original file.") from None


def _is_pointer(path: Path) -> bool:
    """Whether Git LFS left only a pointer to the file."""
    with path.open("rb") as file:
        return file.read(len(_GIT_LFS)) == _GIT_LFS.encode()


def _parse_json_lines(path: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _as_record(path, number, line)


def _as_record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        raise UsageError(f"{path}, line {number} is not JSON; this suite's data are one JSON object a line.") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}, line {number} is not a JSON object.")
    return record


def _parse_json(path: Path, text: str) -> Iterator[dict[str, Any]]:
    try:
        records = json.loads(text)
    except ValueError:
        raise UsageError(f"{path} is not JSON.") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UsageError(f"{path} is not a list of JSON objects.")
    yield from records


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"Reading {path.name} needs pyarrow; install it with: pip install 'empu[tune]'."
        ) from None
    try:
        yield from parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}).") from None
