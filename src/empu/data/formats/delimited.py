"""CSV and TSV: which character divides the columns, and the records."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path

from empu.data.formats.encoding import Encoding, open_text
from empu.data.rows import DataError, Raw

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
FIELD_LIMIT = 16 << 20
"""Longest field, in characters; a quotation mark that is never closed would otherwise swallow a file of any size."""
SAMPLE_CHARS = 64 << 10
REST_LINES = 100
"""Most lines after a record with a stray quotation mark among which its end is looked for."""


_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


def sniff(path: Path, encoding: Encoding) -> str:
    """The delimiter: what Excel's line ``sep=;`` before the header says, or the one that divides the first records into
    the same number of columns, and into most of them.
    """
    with open_text(path, encoding) as text:
        sample = text.read(SAMPLE_CHARS)
    lines = sample.splitlines(keepends=True)
    if len(sample) == SAMPLE_CHARS and len(lines) > 1:
        lines.pop()
    if lines and (said := _SEP_LINE.fullmatch(lines[0])) and said[1] in DELIMITERS:
        return said[1]
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            widths = [len(record) for record in csv.reader(lines, delimiter=delimiter) if record]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            score = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best


def header(path: Path, encoding: Encoding, delimiter: str) -> list[str]:
    """The first record, stripped. Empty where the file is."""
    for _, record in _records(path, encoding, delimiter):
        if isinstance(record, str):
            raise DataError(f"{path}, in its header: {record}; mend that line and try again.")
        if any(value.strip() for value in record):
            return [value.strip() for value in record]
    return []


def read(path: Path, encoding: Encoding, delimiter: str) -> Iterator[Raw]:
    """The records after the header. Raises :class:`~empu.data.rows.DataError` for a quotation mark left open."""
    names: list[str] = []
    for number, record in _records(path, encoding, delimiter):
        if isinstance(record, str):
            yield Raw(number, {}, record)
            continue
        if not any(value.strip() for value in record):
            continue
        if not names:
            names = [value.strip() for value in record]
        elif len(record) == len(names):
            yield Raw(number, dict(zip(names, record, strict=True)))
        else:
            yield Raw(number, {}, f"it has {len(record)} columns where the header has {len(names)}")


def _records(path: Path, encoding: Encoding, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """(number, record or what is wrong with it): the number that a spreadsheet shows, so empty lines count."""
    with open_text(path, encoding) as text:
        first = text.readline()
        skipped = 1 if _SEP_LINE.fullmatch(first) else 0  # no spreadsheet shows it
        lines = _Lines(text if skipped else chain([first], text))
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        for number in count(1):
            begin = reader.line_num + 1 + skipped
            lines.read = []
            previous = csv.field_size_limit(FIELD_LIMIT)
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "expected after" not in str(error):
                    raise DataError(
                        f"{path}, line {begin}: a quotation mark is opened and never closed; close it and try again."
                    ) from error
                skipped += lines.drop_rest(delimiter)
                end = reader.line_num + skipped
                where = f"line {begin}" if begin == end else f"lines {begin} to {end}"
                yield number, f"a quotation mark inside a quoted field is not doubled ({where})"
            else:
                yield number, record
            finally:
                csv.field_size_limit(previous)


class _Lines:
    """Lines for a reader, which can leave some out."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._ahead: deque[str] = deque()
        self.read: list[str] = []
        """The lines of the record that the reader is in."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        self.read.append(line)
        return line

    def drop_rest(self, delimiter: str) -> int:
        """Leaves out the lines that still belong to the record in which the reader failed, and says how many.

        With an odd number of marks so far a field may be open. It is, where the next line with an odd number of them
        closes one and opens none; otherwise one mark was a stray one, as in ``"5" tall",x``.
        """
        if sum(line.count('"') for line in self.read) % 2 == 0:
            return 0
        self._ahead.extend(islice(self._lines, REST_LINES - len(self._ahead)))
        odd = next((at for at, line in enumerate(self._ahead) if line.count('"') % 2), None)
        if odd is None:
            return 0
        line, divider = self._ahead[odd], re.escape(delimiter)
        opens = re.match(rf'([^"]*{divider})? *"', line)
        closes = re.search(rf'" *({divider}|\s*$)', line)
        if opens or not closes:
            return 0
        for _ in range(odd + 1):
            self._ahead.popleft()
        return odd + 1
