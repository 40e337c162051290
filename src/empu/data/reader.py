"""Read a file or folder as rows, one at a time.

This module knows formats and columns. :mod:`empu.data.checks` decides whether the rows are any good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from empu.data.columns import ColumnMapping, map_columns
from empu.data.fields import build_fields
from empu.data.formats.recognition import list_files, open_tables
from empu.data.formats.table import ReadOptions, Table
from empu.data.messages import UnusableError
from empu.data.rows import DataError, ExcludedRecord, Kind, RawRecord, Row
from empu.errors import EmpuError, MissingDependencyError, UsageError
from empu.ledger.hashing import content_id, hash_file
from empu.system.paths import user_path

SAMPLE_RECORDS = 1000
"""Records of each table from which its columns are mapped."""


@dataclass(frozen=True, slots=True)
class DataTable:
    """One table of data files. ``source`` is its path as given, with ``#SHEET`` in a workbook of several sheets."""

    source: str
    table: Table
    columns: ColumnMapping
    sha256: str
    size: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the table for the user."""
        return self.table.notes


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Files that rows are read from. Nothing is kept in memory: each call of :meth:`records` reads the files again."""

    path: str
    kind: Kind
    tables: tuple[DataTable, ...]
    skipped: tuple[tuple[str, str], ...]
    """Files that give no rows: path as given, and the reason."""

    def records(self) -> Iterator[Row | ExcludedRecord]:
        """Yield every record of every file in order, as a row or as the reason why it is none.

        Raises :class:`~empu.data.rows.DataError` if a file breaks off in the middle.
        """
        for table in self.tables:
            yield from _records(table)

    def rows(self) -> Iterator[Row]:
        """Yield the records that are rows."""
        return (record for record in self.records() if isinstance(record, Row))

    def lines(self) -> list[str]:
        """Return the tables, their notes and the skipped files, as lines of text."""
        lines = []
        for table in self.tables:
            lines.append(f"{table.source}: {table.table.format}, {table.columns.line()}")
            lines.extend(f"{table.source}: {note}" for note in table.notes)
        lines.extend(f"skipped file: {reason}" for _, reason in self.skipped)
        return lines

    def check_unchanged(self) -> None:
        """Raise :class:`~empu.data.rows.DataError` if a file has changed since it was opened."""
        for table in self.tables:
            if table.table.file.stat().st_size != table.size or hash_file(table.table.file) != table.sha256:
                raise DataError(f"{table.source} changed while it was being used; start again.")


def read_rows(path: Path | str, mapping: Mapping[str, str] | None = None, *, encoding: str | None = None) -> DataFiles:
    """Open a file, or every file below a folder.

    ``mapping`` says which column is which field (``{"text": "body"}``), which ``sheet`` of a workbook is read, in which
    line the ``header`` is, and which column to ``ignore``. ``encoding`` is that of text files. In a folder, files that
    cannot be used are named in ``skipped``. A single file that cannot be used raises
    :class:`~empu.data.rows.DataError`, :class:`~empu.errors.UsageError` if its columns are unclear, or
    :class:`~empu.errors.MissingDependencyError`.
    """
    root = user_path(path)
    options = _options(mapping, encoding)
    tables: list[DataTable] = []
    skipped: list[tuple[str, str]] = []
    for file in list_files(root):
        given = str(path) if file == root else f"{str(path).rstrip('/')}/{file.relative_to(root).as_posix()}"
        try:
            tables.extend(_open(file, given, mapping, options))
        except MissingDependencyError:
            raise
        except EmpuError as error:
            if file == root:
                raise
            skipped.append((given, str(error)))
    if not tables:
        _, first = skipped[0]
        raise DataError(f"None of the {len(skipped)} files below {path} can be used; the first: {first}")
    if encoding is not None and all(table.table.encoding is None for table in tables):
        raise UsageError(f"--encoding is for text files, and {path} is {tables[0].table.format}; remove it.")
    kind = Counter(table.columns.kind for table in tables).most_common(1)[0][0]
    for table in tables:
        if table.columns.kind is not kind:
            reason = f"{table.source} holds {table.columns.kind} rows and most other files {kind} rows."
            skipped.append((table.source, reason))
    used = tuple(table for table in tables if table.columns.kind is kind)
    return DataFiles(str(path), kind, used, tuple(skipped))


def _options(mapping: Mapping[str, str] | None, encoding: str | None) -> ReadOptions:
    header = (mapping or {}).get("header")
    if header is not None and not (header.isascii() and header.isdigit() and int(header) > 0):
        raise UsageError(f"--map header={header} is not a line; give the number of the line with the column names.")
    return ReadOptions((mapping or {}).get("sheet"), int(header) if header else None, encoding)


def separate_test_files(data: DataFiles) -> tuple[DataFiles, DataFiles | None]:
    """Return the training files of a folder and its test files, ``None`` if it has none.

    Files are test files if their names begin with "test" and another's begins with "train".
    """
    test = tuple(table for table in data.tables if _is_named(table, "test"))
    if not test or not any(_is_named(table, "train") for table in data.tables):
        return data, None
    rest = tuple(table for table in data.tables if not _is_named(table, "test"))
    return replace(data, tables=rest), replace(data, tables=test, skipped=())


def _is_named(table: DataTable, start: str) -> bool:
    return table.table.file.name.casefold().startswith(start)


def _open(file: Path, given: str, mapping: Mapping[str, str] | None, options: ReadOptions) -> list[DataTable]:
    tables = open_tables(file, options)
    sha256, size = hash_file(file), file.stat().st_size
    return [
        DataTable(
            f"{given}#{table.sheet}" if len(tables) > 1 else given,
            table,
            _map_columns(table, given, mapping),
            sha256,
            size,
        )
        for table in tables
    ]


def _map_columns(table: Table, given: str, mapping: Mapping[str, str] | None) -> ColumnMapping:
    records = list(islice(table.records(), SAMPLE_RECORDS))
    sample = [record.values for record in records if record.problem is None]
    if not sample:
        if records:
            first = records[0]
            raise DataError(f"{given} holds no usable rows; row {first.number}: {first.problem}.")
        raise DataError(f"{given} holds no rows; put some below its header, or inside its brackets.")
    names = table.columns or tuple(dict.fromkeys(name for values in sample for name in values))
    return map_columns(names, sample, mapping, given)


def _records(table: DataTable) -> Iterator[Row | ExcludedRecord]:
    kind, columns = table.columns.kind, table.columns.columns
    is_exact = table.table.encoding is None or table.table.encoding.name.startswith("utf-8")
    used = sorted(set(columns.values()))
    for record in table.table.records(used):
        if record.problem is not None:
            yield ExcludedRecord(table.source, record.number, record.problem, category=record.category)
            continue
        if _repeats_header(record, used):
            yield ExcludedRecord(table.source, record.number, "it repeats the header", category="repeated header")
            continue
        try:
            fields = build_fields(kind, columns, record.values, is_exact)
            yield Row(kind, fields, table.source, record.number, content_id(fields))
        except UnusableError as error:
            yield ExcludedRecord(table.source, record.number, str(error), category=error.category)
        except ValueError as error:
            yield ExcludedRecord(table.source, record.number, f"it cannot be written as JSON ({error})")


def _repeats_header(record: RawRecord, used: list[str]) -> bool:
    """Whether the cells of a record are the names of their columns, as where files were joined."""
    return len(used) > 1 and all(_is_name(record.values.get(column), column) for column in used)


def _is_name(value: Any, column: str) -> bool:
    return isinstance(value, str) and value.strip().casefold() == column.strip().casefold()
