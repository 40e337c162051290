"""Which files there are, and what each is: recognised by its first bytes, the suffix only deciding between texts."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from empu.data.formats import delimited, json, tables
from empu.data.formats.encoding import Encoding, detect, open_bytes, open_text
from empu.data.rows import DataError, Raw
from empu.system.paths import user_path

NOT_TABLES = (
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"GGUF", "a model"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file (save it as XLSX)"),
    (b"Rar!", "an archive"),
    (b"7z\xbc\xaf", "an archive"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
DOCUMENTS = {".md", ".markdown", ".html", ".htm", ".pdf", ".docx", ".rst"}
"""Suffixes of running text, which is looked up and not learnt as rows."""

TAKEN = "CSV, TSV, JSON, JSONL, Parquet or XLSX"


@dataclass(frozen=True, slots=True)
class Table:
    """A file that can be read as records. ``sheet`` only for workbooks; ``notes`` are said to the user."""

    file: Path
    format: str
    encoding: Encoding | None = None
    delimiter: str | None = None
    sheet: str | None = None
    columns: tuple[str, ...] | None = None
    """As the header has them, duplicates included; ``None`` where each record brings its own."""
    notes: tuple[str, ...] = field(default=())

    def records(self) -> Iterator[Raw]:
        """Every record, from the first."""
        if self.format == "parquet":
            return tables.read_parquet(self.file)
        if self.format == "xlsx":
            return tables.read_sheet(self.file, self.sheet or "")
        assert self.encoding is not None
        if self.format == "jsonl":
            return json.read_lines(self.file, self.encoding)
        if self.format == "json":
            return json.read_document(self.file, self.encoding)
        return delimited.read(self.file, self.encoding, self.delimiter or ",")


def listed(path: Path) -> list[Path]:
    """The file itself, or every file below a folder in the order of their names; hidden ones are passed over.

    Raises :class:`~empu.data.rows.DataError` when there is none.
    """
    path = user_path(path)
    if path.is_file():
        return [_recordable(path)]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; check the path.")
    try:
        found = [
            file
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    if not found:
        raise DataError(f"The folder {path} holds no files; put {TAKEN} files there.")
    return sorted(map(_recordable, found), key=lambda file: file.relative_to(path).as_posix())


def _recordable(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        name = os.fsencode(path).decode(errors="replace")
        raise DataError(f"The name of {name} is no UTF-8, so it cannot be recorded; rename the file.") from None
    return path


def recognise(path: Path, sheet: str | None = None) -> list[Table]:
    """The tables in a file: one, or one for each sheet. Raises :class:`~empu.data.rows.DataError`."""
    with open_bytes(path) as stream:
        start = stream.read(4096)
    if not start:
        raise DataError(f"{path} is empty; give a {TAKEN} file with rows.")
    for mark, name in NOT_TABLES:
        if start.lstrip()[: len(mark)].lower() == mark.lower():
            raise DataError(f"{path} is {name}; give a {TAKEN} file.")
    if start.startswith(b"PAR1"):
        return [Table(path, "parquet", columns=tuple(tables.parquet_columns(path)))]
    if start.startswith(b"PK\x03\x04"):
        return _workbook(path, sheet)
    return [_text(path)]


def _workbook(path: Path, sheet: str | None) -> list[Table]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is a damaged workbook or archive ({error}); save it again.") from error
    if not any(name.startswith("xl/") for name in names):
        what = "a Word document" if any(name.startswith("word/") for name in names) else "an archive"
        raise DataError(f"{path} is {what}; give a {TAKEN} file.")
    found = tables.sheets(path, sheet)
    if not found:
        raise DataError(f"{path} has no sheet with a header and rows; fill one in and save it again.")
    notes = (f"{len(found)} sheets with the same columns: {', '.join(found)}",) if len(found) > 1 else ()
    return [Table(path, "xlsx", sheet=name, columns=tuple(columns), notes=notes) for name, columns in found.items()]


def _text(path: Path) -> Table:
    encoding = detect(path)
    with open_text(path, encoding) as text:
        start = text.read(4096)
    nul = start.count("\0")
    if nul * 20 > len(start) or (
        nul and sum(char < " " and char not in "\t\r\n\f" for char in start) * 10 > len(start)
    ):
        raise DataError(f"{path} is not a text file; give a {TAKEN} file.")
    if not start.strip():
        raise DataError(f"{path} holds nothing but white space; give a {TAKEN} file with rows.")
    notes: tuple[str, ...] = (
        () if encoding.name == "utf-8" and not encoding.mixed else (f"read as {encoding.name}: {encoding.why}",)
    )
    suffix = (path.suffixes[-2:] or [""])[0] if path.suffix == ".gz" else path.suffix
    suffix = suffix.lower()
    json_like = start.lstrip(" \t\r\n\ufeff")[:1] in ("{", "[") and suffix not in {".csv", ".tsv"}
    if json_like or suffix in {".json", ".jsonl", ".ndjson"}:
        lines = suffix in {".jsonl", ".ndjson"} or json.looks_like_lines(path, encoding)
        if lines and start.lstrip(" \t\r\n\ufeff").startswith("[") and suffix != ".json":
            lines = not _one_array(start)
        return Table(path, "jsonl" if lines else "json", encoding, notes=notes)
    if suffix in DOCUMENTS:
        raise DataError(f"{path} is a document and not a table of rows; give a {TAKEN} file.")
    delimiter = delimited.sniff(path, encoding)
    columns = tuple(delimited.header(path, encoding, delimiter))
    if delimiter != ",":
        notes += (f"columns are divided by a {delimited.DELIMITERS[delimiter]}",)
    return Table(path, "tsv" if delimiter == "\t" else "csv", encoding, delimiter, columns=columns, notes=notes)


def _one_array(start: str) -> bool:
    """Whether a file named as lines is one array after all: its bracket is followed by an object."""
    return start.lstrip(" \t\r\n\ufeff")[1:].lstrip()[:1] in ("{", "]", "")
