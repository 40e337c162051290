"""XLSX workbooks, through openpyxl, which comes with the extra ``tune``."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from empu.data.formats.cells import import_library, json_value
from empu.data.formats.encoding import SUPPORTED
from empu.data.formats.header import MAX_ROWS, find_header
from empu.data.formats.table import CandidateFile, Table
from empu.data.rows import DataError, RawRecord, UnreadableCell
from empu.errors import EmpuError, UsageError

MAX_UNPACKED_BYTES = 4 << 30
BATCH_ROWS = 256
ERROR_VALUES = frozenset({"#N/A", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NULL!", "#NUM!"})
"""What a spreadsheet shows where a formula has no value."""

DOCUMENT_KINDS = (
    (b"opendocument.spreadsheet", "an OpenDocument sheet (save it as XLSX)"),
    (b"opendocument", "an OpenDocument file"),
    (b"wordprocessingml", "a Word document"),
    (b"presentationml", "a PowerPoint document"),
)
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"([A-Z]+)(\d+)")


@dataclass(frozen=True, slots=True)
class SheetLayout:
    """Properties of a sheet that its cell values do not show. Rows and columns count from 1."""

    hidden_rows: frozenset[int] = frozenset()
    merged: tuple[tuple[int, int, int, int], ...] = ()
    """First row, first column, last row, last column of each range of merged cells."""
    formulas_without_value: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet with rows."""

    title: str
    columns: tuple[str, ...]
    header_row: int
    titles: int
    """Rows with text above the header."""
    layout: SheetLayout = field(default_factory=SheetLayout)


class WorkbookFormat:
    """XLSX: a zip archive whose content types name a spreadsheet."""

    name = "xlsx"

    def matches(self, file: CandidateFile) -> bool:
        return file.start.startswith(b"PK\x03\x04")

    def open(self, file: CandidateFile) -> list[Table]:
        path = file.path
        _check_is_workbook(path)
        sheets, hidden = find_sheets(path, file.options.sheet, file.options.header)
        if not sheets:
            where = f" (hidden sheets are not used: {', '.join(hidden)}; --map sheet=NAME uses one)" if hidden else ""
            raise DataError(f"{path} has no sheet with a header and rows{where}; fill one in and save it again.")
        shared = []
        if len(sheets) > 1:
            shared.append(f"{len(sheets)} sheets with the same columns: {', '.join(sheet.title for sheet in sheets)}")
        if hidden:
            shared.append(f"hidden sheets are not used: {', '.join(hidden)} (--map sheet=NAME uses one)")
        return [_table(path, sheet, shared) for sheet in sheets]


def _table(path: Path, sheet: Sheet, shared_notes: Sequence[str]) -> Table:
    notes = list(shared_notes)
    if sheet.titles:
        notes.append(
            f"the header is in row {sheet.header_row}; {sheet.titles} row{'s' if sheet.titles > 1 else ''} of titles "
            "above it are not used (--map header=N names another row)"
        )
    if any(first < last for first, _, last, _ in sheet.layout.merged if first > sheet.header_row):
        notes.append("merged cells are read as if each of them held the value")
    hidden = sum(row > sheet.header_row for row in sheet.layout.hidden_rows)
    if hidden:
        notes.append(
            f"{hidden:,} hidden row{'s are' if hidden > 1 else ' is'} not used; show them in the sheet to use them"
        )
    return Table(
        path,
        "xlsx",
        lambda wanted: read_sheet(path, sheet),
        sheet=sheet.title,
        columns=sheet.columns,
        notes=tuple(notes),
    )


def _check_is_workbook(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            described = b"".join(
                archive.read(name)[:200_000] for name in ("[Content_Types].xml", "mimetype") if name in names
            )
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise DataError(f"{path} is a damaged workbook or archive ({error}); save it again.") from error
    if b"sheet.binary" in described:
        raise DataError(f"{path} is a binary Excel workbook (XLSB); save it as XLSX.")
    if b"spreadsheetml" in described or any(name.startswith("xl/") for name in names):
        return
    kind = next((kind for mark, kind in DOCUMENT_KINDS if mark in described), None)
    if kind is None:
        kind = "a Word document" if any(name.startswith("word/") for name in names) else "an archive"
    raise DataError(f"{path} is {kind}; give a {SUPPORTED} file.")


def find_sheets(path: Path, wanted: str | None = None, header: int | None = None) -> tuple[list[Sheet], list[str]]:
    """Return the visible sheets that hold rows, and the titles of hidden ones.

    Raises :class:`~empu.errors.UsageError` if sheets differ in their columns and none is ``wanted``.
    """
    sheets: list[Sheet] = []
    hidden: list[str] = []
    with _open_workbook(path) as book:
        for worksheet in book.worksheets:
            if wanted is None and worksheet.sheet_state != "visible":
                hidden.append(worksheet.title)
            elif wanted in (None, worksheet.title) and (sheet := _open_sheet(path, worksheet, header)) is not None:
                sheets.append(sheet)
        titles = [worksheet.title for worksheet in book.worksheets]
    if wanted is not None and not sheets:
        raise UsageError(f"{path} has no sheet {wanted!r} with rows; it has {', '.join(titles)}.")
    if len({sheet.columns for sheet in sheets}) > 1:
        names = ", ".join(sheet.title for sheet in sheets)
        raise UsageError(
            f"{path} has several sheets with different columns ({names}); say which with --map sheet={sheets[0].title}."
        )
    return sheets, hidden


def _open_sheet(path: Path, worksheet: Any, header: int | None) -> Sheet | None:
    """Return a sheet with its header, or ``None`` if it holds no rows."""
    rows: list[tuple[int, list[str]]] = []
    is_longer = False
    for number, cells in _numbered_rows(worksheet):
        if any(value is not None for value in cells) and (header is None or number >= header):
            if len(rows) == MAX_ROWS:
                is_longer = True
                break
            rows.append((number, ["" if value is None else str(value) for value in cells]))
    at = 0 if header is not None else find_header(cells for _, cells in rows)
    if len(rows) < at + 2 and not is_longer:
        return None
    number, cells = rows[at]
    return Sheet(worksheet.title, tuple(_names(cells)), number, at, _layout(path, worksheet))


def read_sheet(path: Path, sheet: Sheet) -> Iterator[RawRecord]:
    """Yield the records of one sheet; ``number`` is the row that a spreadsheet program shows."""
    names, layout = sheet.columns, sheet.layout
    fill = _MergedCells(layout.merged, sheet.header_row)
    formulas: dict[int, list[int]] = {}
    for row, column in sorted(layout.formulas_without_value):
        formulas.setdefault(row, []).append(column)
    with _open_workbook(path) as book:
        for number, cells in _numbered_rows(book[sheet.title]):
            if number <= sheet.header_row:
                continue
            values = fill(number, [_cell(value) for value in cells])
            for column in formulas.get(number, ()):
                values += [None] * (column - len(values))
                values[column - 1] = _missing_value(number, column, names)
            if all(value is None for value in values):
                continue
            if number in layout.hidden_rows:
                yield RawRecord(number, {}, "the row is hidden in the sheet", "hidden")
                continue
            extra = [value for value in values[len(names) :] if value is not None]
            if extra:
                problem = f"it has {len(names) + len(extra)} cells where the header has {len(names)}"
                yield RawRecord(number, {}, problem)
                continue
            values += [None] * (len(names) - len(values))
            yield RawRecord(number, dict(zip(names, values, strict=False)))


def _missing_value(number: int, column: int, names: Sequence[str]) -> UnreadableCell:
    name = names[column - 1] if column <= len(names) and names[column - 1] else f"in column {column}"
    return UnreadableCell(
        f"is a formula whose value is not stored in the file ({name}, row {number}); open the file in a spreadsheet "
        "program and save it"
    )


class _MergedCells:
    """Fills merged cells with the value of their first cell, row after row."""

    def __init__(self, merged: Sequence[tuple[int, int, int, int]], header_row: int) -> None:
        self._ranges = sorted(area for area in merged if area[0] > header_row)
        self._values: dict[tuple[int, int, int, int], Any] = {}
        self._next = 0
        self._open: list[tuple[int, int, int, int]] = []

    def __call__(self, number: int, cells: list[Any]) -> list[Any]:
        while self._next < len(self._ranges) and self._ranges[self._next][0] <= number:
            self._open.append(self._ranges[self._next])
            self._next += 1
        self._open = [area for area in self._open if area[2] >= number]
        for area in self._open:
            first_row, first_column, _, last_column = area
            if number == first_row:
                self._values[area] = cells[first_column - 1] if first_column <= len(cells) else None
            cells += [None] * (last_column - len(cells))
            if first_row < area[2]:  # a range over one row is a wide cell, not a repeated value
                for column in range(first_column, last_column + 1):
                    if cells[column - 1] is None and column == first_column:
                        cells[column - 1] = self._values.get(area)
        return cells


def _numbered_rows(worksheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """Yield row numbers and values without openpyxl's warnings about features that do not concern values."""
    worksheet.reset_dimensions()  # the file may misstate its size
    rows = worksheet.iter_rows(values_only=True)
    number = 0
    try:
        while True:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                batch = list(islice(rows, BATCH_ROWS))
            if not batch:
                return
            for cells in batch:
                number += 1
                yield number, list(cells)
    finally:
        rows.close()


def _layout(path: Path, worksheet: Any) -> SheetLayout:
    """Read what openpyxl's streaming mode leaves out: hidden rows, merged cells, formulas without a stored value."""
    part = getattr(worksheet, "_worksheet_path", None)
    if not isinstance(part, str):
        return SheetLayout()
    hidden, merged, formulas = set(), [], set()
    number = 0
    with zipfile.ZipFile(path) as archive, archive.open(part.lstrip("/")) as stream:
        for _, element in ElementTree.iterparse(stream):
            tag = element.tag.rpartition("}")[2]
            if tag == "row":
                number = int(element.get("r", number + 1))
                if element.get("hidden") in ("1", "true"):
                    hidden.add(number)
                formulas |= {(number, column) for column in _formulas_without_value(element)}
                element.clear()
            elif tag == "mergeCell" and (corners := _REFERENCE.findall(element.get("ref", ""))):
                (first_column, first_row), (last_column, last_row) = corners[0], corners[-1]
                merged.append((int(first_row), _column(first_column), int(last_row), _column(last_column)))
    return SheetLayout(frozenset(hidden), tuple(merged), frozenset(formulas))


def _formulas_without_value(row: Any) -> Iterator[int]:
    column = 0
    for cell in row:
        reference = _REFERENCE.fullmatch(cell.get("r", ""))
        column = _column(reference[1]) if reference else column + 1
        children = {child.tag.rpartition("}")[2]: child for child in cell}
        if "f" in children and ("v" not in children or not children["v"].text) and cell.get("t") != "str":
            yield column


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def _cell(value: Any) -> Any:
    """Return a cell as the sheet shows it: dates without a time, durations over 24 hours, errors as no value."""
    if isinstance(value, str):
        return None if value in ERROR_VALUES else unescape(value)
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return json_value(value)


def unescape(text: str) -> str:
    """Replace Excel's escapes of characters that XML does not hold: ``_x000D_`` is a carriage return."""
    if "_x" not in text:
        return text
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _names(cells: Sequence[str]) -> list[str]:
    names = [unescape(cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


@contextmanager
def _open_workbook(path: Path) -> Iterator[Any]:
    """Open a workbook. Raises :class:`~empu.data.rows.DataError` if it is damaged."""
    openpyxl = import_library("openpyxl", path)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise DataError(f"{path} unpacks to {unpacked >> 20:,} MiB; save it as CSV.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            yield book
        finally:
            book.close()
    except EmpuError:
        raise
    except Exception as error:  # openpyxl raises whatever its XML parser and its archive raise
        first_line = (str(error).splitlines() or [""])[0][:120]
        raise DataError(
            f"{path} is not a workbook that can be read ({first_line}); save it again as XLSX, or as CSV."
        ) from error
