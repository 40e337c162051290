"""List files and open their tables: each file goes to the first format that recognises it by its bytes.

The suffix only decides between texts. Installed packages add formats through the entry point group ``empu.readers``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from empu.data.formats.delimited import DelimitedFormat
from empu.data.formats.encoding import SUPPORTED
from empu.data.formats.json import JsonFormat, JsonLinesFormat
from empu.data.formats.parquet import ParquetFormat
from empu.data.formats.plugins import plugin_formats
from empu.data.formats.table import CandidateFile, Format, ReadOptions, Table
from empu.data.formats.workbook import WorkbookFormat
from empu.data.rows import DataError
from empu.system.paths import user_path


class _NotTables:
    """Files that hold no table that can be read. They are refused by name."""

    name = "other"

    def matches(self, file: CandidateFile) -> bool:
        return _kind_of_bytes(file) is not None

    def open(self, file: CandidateFile) -> list[Table]:
        raise DataError(f"{file.path} is {_kind_of_bytes(file)}; give a {SUPPORTED} file.")


class _NotTextTables:
    """Texts that are not tables: documents, YAML, XML. They are refused by name."""

    name = "other text"

    def matches(self, file: CandidateFile) -> bool:
        return _kind_of_text(file) is not None

    def open(self, file: CandidateFile) -> list[Table]:
        raise DataError(f"{file.path} is {_kind_of_text(file)}; give a {SUPPORTED} file.")


FORMATS: tuple[Format, ...] = (
    _NotTables(),
    ParquetFormat(),
    WorkbookFormat(),
    _NotTextTables(),
    JsonLinesFormat(),
    JsonFormat(),
    DelimitedFormat(),
)
"""Formats in the order in which they are asked. Those of installed packages come before all of them."""

MAGIC_BYTES = (
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
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard (decompress it)"),
    (b"BZh9", "compressed with bzip2 (decompress it)"),
    (b"\xfd7zXZ", "compressed with xz (decompress it)"),
    (b"ARROW1", "an Arrow file (save it as Parquet)"),
    (b"FEA1", "a Feather file (save it as Parquet)"),
    (b"\xff\xff\xff\xff", "an Arrow stream (save it as Parquet)"),
    (b"Obj\x01", "an Avro file (save it as Parquet)"),
    (b"\x89HDF", "an HDF5 file (save it as Parquet)"),
    (b"\x80\x04\x95", "a Python pickle (save it as Parquet)"),
    (b"\x80\x05\x95", "a Python pickle (save it as Parquet)"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself (run `git lfs pull`)"),
    (b"{\\rtf", "an RTF document"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML file (save it as CSV or JSONL)"),
)
"""First bytes -> what such a file is, with what to do about it. Markup is compared in lower case."""

DOCUMENT_SUFFIXES = {".md", ".markdown", ".html", ".htm", ".pdf", ".docx", ".rst"}
YAML_SUFFIXES = {".yml", ".yaml"}
_YAML = re.compile(
    r"\ufeff?(?:\s*#[^\n]*\n)*(?:---\s*\n|[\w-]+:(?:[ \t]+[^,\t;|\n]*)?\r?\n(?:[\w-]+:|[ \t]*- |[ \t]+\w))"
)


def _kind_of_bytes(file: CandidateFile) -> str | None:
    if file.start.startswith(b"\xff\xfe\0\0"):  # the byte order mark of UTF-32
        return None
    start = file.start.lstrip()
    if start.startswith(b"<"):
        start = start.lower()
    return next((kind for mark, kind in MAGIC_BYTES if start.startswith(mark)), None)


def _kind_of_text(file: CandidateFile) -> str | None:
    if file.suffix in DOCUMENT_SUFFIXES:
        return "a document and not a table of rows"
    if file.suffix in YAML_SUFFIXES or (file.suffix not in {".csv", ".tsv"} and _YAML.match(file.text_start)):
        return "a YAML file, such as Rasa's training data (convert its examples to rows of text,label)"
    lines = file.text_start.splitlines()[:20]
    if lines and sum(line.startswith("__label__") for line in lines) * 2 > len(lines):
        return "in fastText's format (write its labels and texts as rows of text,label)"
    return None


def list_files(path: Path) -> list[Path]:
    """Return the file itself, or every file below a folder sorted by name; hidden files are ignored.

    Raises :class:`~empu.data.rows.DataError` if there is none.
    """
    path = user_path(path)
    if path.is_file():
        return [_check_name(path)]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; check the path.")
    try:
        files = [
            file
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    if not files:
        raise DataError(f"The folder {path} holds no files; put {SUPPORTED} files there.")
    return sorted(map(_check_name, files), key=lambda file: file.relative_to(path).as_posix())


def _check_name(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        name = os.fsencode(path).decode(errors="replace")
        raise DataError(f"The name of {name} is not UTF-8, so it cannot be recorded; rename the file.") from None
    return path


def open_tables(path: Path, options: ReadOptions | None = None) -> list[Table]:
    """Return the tables in a file: one, or one for each sheet. Raises :class:`~empu.errors.EmpuError`."""
    file = CandidateFile(path, options or ReadOptions())
    if not file.start:
        raise DataError(f"{path} is empty; give a {SUPPORTED} file with rows.")
    for file_format in (*plugin_formats(), *FORMATS):
        if file_format.matches(file):
            return file_format.open(file)
    raise DataError(f"{path} is in no format that is known; give a {SUPPORTED} file.")
