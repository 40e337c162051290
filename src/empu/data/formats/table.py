"""The interface between file formats and the reader: a file to recognise, its tables, and a format that opens them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from empu.data.formats.encoding import SUPPORTED, Encoding, detect_encoding, named_encoding, open_bytes, open_text
from empu.data.rows import DataError, RawRecord

START_BYTES = 4096

ReadRecords = Callable[[Collection[str] | None], Iterator[RawRecord]]
"""Reads every record from the first; the argument names the columns that are needed, ``None`` all of them."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says about how files are to be read."""

    sheet: str | None = None
    header: int | None = None
    """Line, or row of a sheet, of the column names."""
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A file, or a sheet of one, that can be read as records."""

    file: Path
    format: str
    read: ReadRecords
    encoding: Encoding | None = None
    delimiter: str | None = None
    sheet: str | None = None
    columns: tuple[str, ...] | None = None
    """As the header has them, duplicates included; ``None`` if each record names its own."""
    notes: tuple[str, ...] = field(default=())
    """Sentences for the user."""

    def records(self, columns: Collection[str] | None = None) -> Iterator[RawRecord]:
        """Read every record from the first. ``columns`` names those that are needed, ``None`` all of them."""
        return self.read(columns)


class CandidateFile:
    """A file that formats are asked about. Its text is decoded only if a format asks for it."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Raise :class:`~empu.data.rows.DataError` if the file cannot be read."""
        self.path, self.options = path, options
        with open_bytes(path) as stream:
            self.start = stream.read(START_BYTES)

    @property
    def suffix(self) -> str:
        """The last suffix in lower case, without ``.gz``."""
        path = self.path
        return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()

    @cached_property
    def encoding(self) -> Encoding:
        """The encoding of its text. Raises :class:`~empu.errors.EmpuError` if it is unknown."""
        if self.options.encoding is not None:
            return named_encoding(self.options.encoding)
        return detect_encoding(self.path)

    @cached_property
    def text_start(self) -> str:
        """The first characters of its text. Raises :class:`~empu.data.rows.DataError` if it is not text."""
        try:
            with open_text(self.path, self.encoding) as text:
                start = text.read(START_BYTES)
        except UnicodeError as error:
            raise DataError(f"{self.path} is not text in {self.encoding.name} ({error}); name its encoding.") from error
        if start.count("\0") * 20 > len(start):
            raise DataError(f"{self.path} is not a text file; give a {SUPPORTED} file.")
        if not start.strip("\ufeff \t\r\n\f\v"):
            raise DataError(f"{self.path} holds nothing but white space; give a {SUPPORTED} file with rows.")
        return start

    def encoding_notes(self) -> tuple[str, ...]:
        """What the user should know about the encoding."""
        if self.encoding.name == "utf-8" and not self.encoding.mixed:
            return ()
        return (f"read as {self.encoding.name}: {self.encoding.why}",)


class Format(Protocol):
    """A file format: recognises its files and opens their tables."""

    name: str

    def matches(self, file: CandidateFile) -> bool:
        """Whether the file is of this format."""

    def open(self, file: CandidateFile) -> list[Table]:
        """Return the tables in the file. Raises :class:`~empu.errors.EmpuError` if they cannot be read."""
