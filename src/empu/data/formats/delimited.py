"""CSV and TSV: the delimiter, the quoting, the header, and the records.

A record begins on one line and may continue on the next ones inside quotation marks. A mark that is not meant as a
quote would swallow the lines up to the next mark; :func:`_is_stray` recognises this, and only the line with the mark is
excluded.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from empu.data.formats.encoding import Encoding, open_text
from empu.data.formats.header import MAX_ROWS, find_header
from empu.data.formats.table import CandidateFile, Table
from empu.data.rows import DataError, RawRecord
from empu.errors import UsageError

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
MAX_FIELD_CHARS = 16 << 20
"""Longest field; a quotation mark that is never closed would otherwise swallow a file of any size."""
SAMPLE_CHARS = 64 << 10
MAX_LOOKAHEAD = 100
"""Most lines after a record with a misplaced quotation mark in which its end is searched."""

MISPLACED = "a quotation mark inside a quoted field is not doubled"
STRAY = "it begins with a quotation mark that is never closed on this line"

_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(slots=True)
class Dialect:
    """How a delimited file is written."""

    delimiter: str
    quoted: bool = True
    """Whether quotation marks enclose cells; otherwise they are text."""
    quote: str = '"'
    skip_space: bool = False
    """Whether blanks between a delimiter and a quotation mark are no part of the cell."""
    header_line: int = 1
    known_values: list[frozenset[str]] | None = field(default=None)
    """For each column the values that occur again and again; computed when it is first needed."""
    multiline_records: int | None = None
    """Records with a cell that holds line ends and delimiters, up to 2; computed when it is first needed."""

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Return a strict CSV reader over lines."""
        if self.quoted:
            return csv.reader(
                lines, delimiter=self.delimiter, quotechar=self.quote, skipinitialspace=self.skip_space, strict=True
            )
        return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)


class DelimitedFormat:
    """CSV, TSV, and the same with semicolons or bars. Takes every text that no other format takes."""

    name = "csv"

    def matches(self, file: CandidateFile) -> bool:
        return bool(file.text_start)

    def open(self, file: CandidateFile) -> list[Table]:
        path, encoding = file.path, file.encoding
        dialect = detect_dialect(path, encoding, file.options.header)
        columns, titles = _header(path, encoding, dialect)
        notes = list(file.encoding_notes())
        if dialect.delimiter != ",":
            notes.append(f"columns are divided by a {DELIMITERS[dialect.delimiter]}")
        if titles:
            notes.append(
                f"the header is in line {dialect.header_line}; the titles above it ({titles} lines) are not used "
                "(--map header=N names another line)"
            )
        return [
            Table(
                path,
                "tsv" if dialect.delimiter == "\t" else "csv",
                lambda wanted: read_records(path, encoding, dialect),
                encoding,
                dialect.delimiter,
                columns=tuple(columns),
                notes=tuple(notes),
            )
        ]


def detect_dialect(path: Path, encoding: Encoding, header_line: int | None = None) -> Dialect:
    """Return the delimiter, the quoting and the header's line of a file."""
    with open_text(path, encoding) as text:
        sample = text.read(SAMPLE_CHARS)
    lines = _split_lines(sample)
    if len(sample) == SAMPLE_CHARS and len(lines) > 1:
        lines.pop()
    declared = _SEP_LINE.fullmatch(lines[0]) if lines else None
    skipped = 1 if declared else 0
    delimiter = declared[1] if declared and declared[1] in DELIMITERS else _sniff_delimiter(lines[skipped:])
    dialect = Dialect(delimiter, skip_space=_has_spaces_before_quotes(lines[skipped:], delimiter))
    if _is_in_single_quotes(lines[skipped:], delimiter):
        dialect.quote = "'"
    elif delimiter == "\t" and '"' in _whole_or(sample, path, encoding):
        dialect.quoted = _is_quoted_throughout(path, encoding, dialect)
    if header_line is not None:
        dialect.header_line = header_line
    else:
        records = [(n, record) for n, record in _sample_records(lines, dialect) if any(cell.strip() for cell in record)]
        if records:
            dialect.header_line = records[find_header(record for _, record in records)][0]
    return dialect


def _whole_or(sample: str, path: Path, encoding: Encoding) -> str:
    """Return a text that holds a quotation mark if the file does."""
    if '"' in sample:
        return sample
    with open_text(path, encoding) as text:
        while chunk := text.read(1 << 20):
            if '"' in chunk:
                return chunk
    return ""


def _split_lines(text: str) -> list[str]:
    """Split at line ends only, as csv does; ``str.splitlines`` also splits at form feeds and others."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)


def _sniff_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that divides most records into the same number of columns, and into most of them."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            records = csv.reader(lines, delimiter=delimiter)
            widths = Counter(len(record) for record in records if any(cell.strip() for cell in record))
        except csv.Error:
            continue
        if not widths:
            continue
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        if width > 1 and (score := (count / widths.total(), width)) > best_score:
            best, best_score = delimiter, score
    return best


def _has_spaces_before_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether all rows have blanks between a delimiter and a quotation mark, as in ``"a", "b"``."""
    rows = [line for line in lines[1:] if line.strip()]
    spaced = re.compile(rf'{re.escape(delimiter)} +"')
    tight = re.compile(rf'{re.escape(delimiter)}"(?!")')
    return (
        bool(rows)
        and sum(bool(spaced.search(line)) for line in rows) >= 0.9 * len(rows)
        and not any(tight.search(line) for line in rows)
    )


def _is_in_single_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether all cells of all rows are enclosed in single quotation marks."""
    rows = [line.strip() for line in lines[1:] if line.strip()]
    return bool(rows) and all(
        len(cells := row.split(f"'{delimiter}'")) > 1 and cells[0].startswith("'") and cells[-1].endswith("'")
        for row in rows
    )


def _is_quoted_throughout(path: Path, encoding: Encoding, dialect: Dialect) -> bool:
    """Whether the quotation marks of a tab-separated file enclose cells.

    They do if every cell with a mark is enclosed and its inner marks are doubled, and either each row has an enclosed
    cell or some cell needs the marks. They also do if then all records have the header's width and no mark is stray.
    """
    rows = rows_with_quotes = 0
    is_well_formed, needs_quotes = True, False
    with open_text(path, encoding) as text:
        for line in text:
            if not line.strip():
                continue
            cells = line.rstrip("\r\n").split("\t")
            rows += 1
            marked = [cell for cell in cells if '"' in cell]
            rows_with_quotes += bool(marked)
            for cell in marked:
                inner = cell[1:-1]
                enclosed = len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
                is_well_formed = is_well_formed and enclosed
                needs_quotes = needs_quotes or (enclosed and '""' in inner)
    if is_well_formed:
        return needs_quotes or rows_with_quotes >= rows - 1  # the header may have none
    quoted = Dialect(dialect.delimiter, skip_space=dialect.skip_space)
    record_widths = Counter[int]()
    try:
        for _, record in _records(path, encoding, quoted):
            if isinstance(record, str):
                return False
            if any(cell.strip() for cell in record):
                record_widths[len(record)] += 1
    except DataError:
        return False
    return len(record_widths) == 1


def _sample_records(lines: Sequence[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the line numbers and records of a sample up to the first error."""
    reader = dialect.reader(iter(lines))
    number = 1
    skipped = 0
    if lines and _SEP_LINE.fullmatch(lines[0]):
        next(reader)
        number, skipped = 2, 1
    for _ in range(MAX_ROWS + skipped):
        try:
            record = next(reader)
        except (StopIteration, csv.Error):
            return
        yield number, record
        number = reader.line_num + 1  # type: ignore[attr-defined]


def _header(path: Path, encoding: Encoding, dialect: Dialect) -> tuple[list[str], int]:
    """Return the column names and the number of title lines above them; no names for an empty file."""
    titles = 0
    for number, record in _records(path, encoding, dialect):
        if isinstance(record, str):
            if number >= dialect.header_line:
                raise DataError(f"{path}, in its header: {record}; correct that line and try again.")
            titles += 1
        elif number >= dialect.header_line and any(cell.strip() for cell in record):
            return _names(record), titles
        else:
            titles += any(cell.strip() for cell in record)
    if dialect.header_line > 1:
        raise UsageError(f"{path} has no line {dialect.header_line} with column names; correct --map header=N.")
    return [], 0


def _names(record: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in record]
    while names and not names[-1]:
        names.pop()
    return names


def read_records(path: Path, encoding: Encoding, dialect: Dialect) -> Iterator[RawRecord]:
    """Yield the records after the header; ``number`` is the line on which a record begins.

    Raises :class:`~empu.data.rows.DataError` for a quotation mark that is never closed.
    """
    names: list[str] = []
    for number, record in _records(path, encoding, dialect):
        if isinstance(record, str):
            if number > dialect.header_line:
                yield RawRecord(number, {}, record)
        elif number < dialect.header_line or not any(cell.strip() for cell in record):
            continue
        elif not names:
            names = _names(record)
        else:
            while len(record) > len(names) and not record[-1].strip():
                record.pop()
            if len(record) == len(names):
                yield RawRecord(number, dict(zip(names, record, strict=True)))
            else:
                yield RawRecord(number, {}, f"it has {len(record)} columns where the header has {len(names)}")


def _records(path: Path, encoding: Encoding, dialect: Dialect) -> Iterator[tuple[int, list[str] | str]]:
    """Yield (line, record or problem). Each line that is excluded gives a problem of its own."""
    with open_text(path, encoding) as text, _field_limit():
        lines = _Lines(text)
        reader = dialect.reader(lines)
        while True:
            begin = lines.next_number
            lines.of_record = []
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "expected after" not in str(error):
                    raise DataError(
                        f"{path}, line {begin}: a quotation mark is opened and never closed; close it and try again."
                    ) from error
                if len(lines.of_record) > 1 and _is_stray(path, encoding, dialect, lines.of_record, is_closed=False):
                    lines.push_back(1)
                    yield begin, STRAY
                    continue
                lines.take_rest_of_record(dialect.delimiter)
                for i in range(len(lines.of_record)):
                    yield begin + i, MISPLACED if i == 0 else f"it belongs to line {begin}, in which {MISPLACED}"
            else:
                if begin == 1 and len(lines.of_record) == 1 and _SEP_LINE.fullmatch(lines.of_record[0]):
                    continue  # Excel's note of the delimiter
                if len(lines.of_record) > 1 and _is_stray(path, encoding, dialect, lines.of_record, is_closed=True):
                    lines.push_back(1)
                    yield begin, STRAY
                else:
                    yield begin, record


@contextmanager
def _field_limit() -> Iterator[None]:
    previous = csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


def _is_stray(path: Path, encoding: Encoding, dialect: Dialect, lines: Sequence[str], *, is_closed: bool) -> bool:
    """Whether a record of several lines is several rows that a stray quotation mark joined.

    Each of its lines must look like a row: it has the header's width, and its value in a column with few values, such
    as a label, occurs elsewhere in the file. Without such a column the lines between the first and the last decide, in
    a file that has no other cells with both line ends and delimiters.
    """
    if not any(dialect.delimiter in line for line in lines[1:]):
        return False
    if dialect.known_values is None:
        dialect.known_values = _known_values(path, encoding, dialect)
    known = dialect.known_values
    width = len(known)
    rows = [_cells(line, dialect) for line in lines]
    if not is_closed:
        rows.pop()  # the line in which the reader failed may be anything
    if any(len(row) != width for row in rows):
        return False
    columns = [i for i, values in enumerate(known) if values]
    if columns:
        seen = [all(row[i].strip(' "') in known[i] for i in columns) for row in rows]
        return sum(seen) >= 0.8 * len(seen)
    if dialect.multiline_records is None:
        dialect.multiline_records = _multiline_records(path, encoding, dialect)
    return len(lines) > 2 and dialect.multiline_records <= 1


def _cells(line: str, dialect: Dialect) -> list[str]:
    """Split one line: as a row if its marks are balanced, else at each delimiter."""
    line = line.rstrip("\r\n")
    if line.count('"') % 2 == 0:
        try:
            cells = next(dialect.reader(iter([line])), [])
        except csv.Error:
            cells = line.split(dialect.delimiter)
    else:
        cells = line.split(dialect.delimiter)
    while cells and not cells[-1].strip():
        cells.pop()
    return cells


def _known_values(path: Path, encoding: Encoding, dialect: Dialect) -> list[frozenset[str]]:
    """Return, for each column, its repeated values if it has few; an empty set for a column of many."""
    counts: list[Counter[str]] = []
    with open_text(path, encoding) as text:
        for line in islice(text, dialect.header_line - 1, None):
            cells = _cells(line, dialect)
            if not counts:
                counts = [Counter() for _ in cells]
            elif len(cells) == len(counts):
                for counter, cell in zip(counts, cells, strict=True):
                    if len(counter) < 5000:
                        counter[cell.strip()[:100]] += 1
    known = []
    for counter in counts:
        repeated = frozenset(value for value, count in counter.items() if count > 1 and value)
        rows_of_repeated = sum(counter[value] for value in repeated)
        known.append(
            repeated if 2 * rows_of_repeated > counter.total() and len(counter) * 2 <= counter.total() else frozenset()
        )
    return known


def _multiline_records(path: Path, encoding: Encoding, dialect: Dialect) -> int:
    """Return how many records have a cell with line ends and delimiters, up to 2."""
    count = 0
    with open_text(path, encoding) as text:
        reader = dialect.reader(_Lines(text))
        try:
            for record in reader:
                count += any("\n" in cell.strip() and dialect.delimiter in cell for cell in record)
                if count > 1:
                    break
        except csv.Error:
            pass
    return count


class _Lines:
    """Lines for a CSV reader, which can be pushed back or taken out."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._ahead: deque[str] = deque()
        self.next_number = 1
        """Number of the line that comes next."""
        self.of_record: list[str] = []
        """The lines of the current record."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        self.next_number += 1
        self.of_record.append(line)
        return line

    def push_back(self, keep: int) -> None:
        """Return all lines of the current record but the first ``keep``."""
        rest = self.of_record[keep:]
        self._ahead.extendleft(reversed(rest))
        self.next_number -= len(rest)
        del self.of_record[keep:]

    def take_rest_of_record(self, delimiter: str) -> None:
        """Take the lines that still belong to the record in which the reader failed.

        With an odd number of marks so far a field may be open. It is open if the next line with an odd number of marks
        closes one and opens none. Otherwise one mark is a stray one, as in ``"5" tall",x``.
        """
        if sum(line.count('"') for line in self.of_record) % 2 == 0:
            return
        self._ahead.extend(islice(self._lines, max(0, MAX_LOOKAHEAD - len(self._ahead))))
        ahead = enumerate(islice(self._ahead, MAX_LOOKAHEAD))
        odd = next((i for i, line in ahead if line.count('"') % 2), None)
        if odd is None:
            return
        line, divider = self._ahead[odd], re.escape(delimiter)
        opens = re.match(rf'([^"]*{divider})? *"', line)
        closes = re.search(rf'" *({divider}|\s*$)', line)
        if opens or not closes:
            return
        for _ in range(odd + 1):
            next(self)
