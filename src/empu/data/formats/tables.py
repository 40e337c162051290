"""Parquet and XLSX, through libraries that come with the extra ``tune``."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from empu.data.rows import DataError, Raw
from empu.errors import EmpuError, MissingDependencyError, UsageError

BATCH_ROWS = 1024
UNPACKED_BYTES = 4 << 30
"""Most that a workbook may unpack to."""
SHEET_ERRORS = frozenset({"#N/A", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NULL!", "#NUM!"})
"""What a spreadsheet shows where a formula has no value."""


def _library(name: str, path: Path) -> Any:
    """The module ``name``. Raises :class:`~empu.errors.MissingDependencyError`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.split(".")[0]
        raise MissingDependencyError(
            f"{path} needs the library {library}, which is not installed; `pip install 'empu[tune]'` installs it."
        ) from error


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """An open Parquet file; its damage gets a sentence."""
    arrow, parquet = _library("pyarrow", path), _library("pyarrow.parquet", path)
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (arrow.ArrowException, OSError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0][:120]
        raise DataError(f"{path} is a damaged Parquet file ({first}); write it again.") from error


def parquet_columns(path: Path) -> list[str]:
    """The names of its columns, empty ones included."""
    with _parquet(path) as file:
        return [str(name) for name in file.schema_arrow.names]


def read_parquet(path: Path) -> Iterator[Raw]:
    """The records of a Parquet file, some hundred at a time."""
    with _parquet(path) as file:
        number = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield Raw(number, {name: plain(value) for name, value in zip(batch.schema.names, values, strict=True)})


def _values(column: Any) -> list[Any]:
    """A column in Python's types, or as text where these do not hold it, as with times finer than microseconds."""
    values: list[Any]
    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):
        numbers = column.cast("int64") if str(column.type).startswith("duration") else column
        values = numbers.cast("string").to_pylist()
    return values


def sheets(path: Path, wanted: str | None = None) -> dict[str, list[str]]:
    """Sheet -> header, for the sheets that hold rows. Raises where several differ and none is ``wanted``."""
    found: dict[str, list[str]] = {}
    with _workbook(path) as book:
        for sheet in book.worksheets:
            with closing(_rows_of(sheet)) as cells:
                rows = (list(row) for row in cells if any(value is not None for value in row))
                header = next(rows, None)
                if header is not None and next(rows, None) is not None:
                    found[sheet.title] = _names(header)
    if wanted is not None:
        if wanted not in found:
            raise UsageError(f"{path} has no sheet {wanted!r} with rows; it has {', '.join(found) or 'none'}.")
        return {wanted: found[wanted]}
    if len({tuple(header) for header in found.values()}) > 1:
        raise UsageError(
            f"{path} has several sheets with different columns ({', '.join(found)}); say which with "
            f"--map sheet={next(iter(found))}."
        )
    return found


def read_sheet(path: Path, name: str) -> Iterator[Raw]:
    """The records of one sheet; ``number`` is the row that a spreadsheet program shows."""
    with _workbook(path) as book, closing(_rows_of(book[name])) as rows:
        names: list[str] = []
        for number, cells in enumerate(rows, 1):
            values = [_cell(value) for value in cells]
            if all(value is None for value in values):
                continue
            if not names:
                names = _names(values)
                continue
            extra = [value for value in values[len(names) :] if value is not None]
            if extra:
                yield Raw(number, {}, f"it has {len(names) + len(extra)} cells where the header has {len(names)}")
                continue
            values += [None] * (len(names) - len(values))
            yield Raw(number, dict(zip(names, values, strict=False)))


def _rows_of(sheet: Any) -> Any:
    sheet.reset_dimensions()  # what the file says of its size may be out of date
    return sheet.iter_rows(values_only=True)


def _cell(value: Any) -> Any:
    """A sheet's cell: a day has no time of day there, a duration may pass 24 hours, an error is no value."""
    if isinstance(value, str) and value in SHEET_ERRORS:
        return None
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return plain(value)


def _names(cells: list[Any]) -> list[str]:
    while cells and cells[-1] is None:
        cells.pop()
    return ["" if cell is None else str(cell).strip() for cell in cells]


@contextmanager
def _workbook(path: Path) -> Iterator[Any]:
    """An open workbook; its damage gets a sentence."""
    openpyxl = _library("openpyxl", path)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > UNPACKED_BYTES:
            raise DataError(f"{path} unpacks to {unpacked >> 20:,} MiB; save it as CSV.")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            yield book
        finally:
            book.close()
    except EmpuError:
        raise
    except Exception as error:  # openpyxl lets through whatever its XML and its archive meet
        first = (str(error).splitlines() or [""])[0][:120]
        raise DataError(
            f"{path} is not a workbook that can be read ({first}); save it again as XLSX, or as CSV."
        ) from error


def plain(value: Any) -> Any:
    """A cell as JSON would have it: dates in ISO form, whole decimals and floats without a point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    return value
