"""The table of document formats: how each is recognised, and how it is read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from empu.retrieval.extract import email_message, html, office, pdf
from empu.retrieval.extract.document import Block, DocumentError, ExtractedDocument, assemble, table_text
from empu.retrieval.extract.markdown import read_markdown
from empu.retrieval.extract.plain_text import read_plain_text

MAX_FILE_BYTES = 200_000_000
MAX_TEXT_BYTES = 50_000_000
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class DocumentFormat:
    """One format. ``recognises`` sees the path and its first bytes; formats are asked in the order of the table."""

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path, int], ExtractedDocument]


def _read_markdown(path: Path, max_pages: int) -> ExtractedDocument:
    return assemble("markdown", read_markdown(_text(path)), title=None, pages=None, warnings=())


def _read_plain_text(path: Path, max_pages: int) -> ExtractedDocument:
    return assemble("text", read_plain_text(_text(path)), title=None, pages=None, warnings=())


def _read_html(path: Path, max_pages: int) -> ExtractedDocument:
    title, blocks = html.read_html(_text(path))
    return assemble("html", blocks, title=title, pages=None, warnings=())


def _read_pdf(path: Path, max_pages: int) -> ExtractedDocument:
    title, pages, blocks, warnings = pdf.read_pdf(path, max_pages)
    return _assemble_late("pdf", title, pages, blocks, warnings)


def _read_docx(path: Path, max_pages: int) -> ExtractedDocument:
    title, blocks, warnings = office.read_docx(path)
    return _assemble_late("docx", title, None, blocks, warnings)


def _read_pptx(path: Path, max_pages: int) -> ExtractedDocument:
    title, pages, blocks, warnings = office.read_pptx(path, max_pages)
    return _assemble_late("pptx", title, pages, blocks, warnings)


def _read_xlsx(path: Path, max_pages: int) -> ExtractedDocument:
    title, pages, blocks, warnings = office.read_xlsx(path, max_pages)
    return _assemble_late("xlsx", title, pages, blocks, warnings)


def _read_email(path: Path, max_pages: int) -> ExtractedDocument:
    title, blocks, warnings = email_message.read_email(path)
    return _assemble_late("eml", title, None, blocks, warnings)


def _read_csv(path: Path, max_pages: int) -> ExtractedDocument:
    text = _text(path)
    sample = text[:20_000]
    delimiter = max(",;\t|", key=sample.count)
    csv.field_size_limit(MAX_TEXT_BYTES)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DocumentError(f"the table is damaged ({error})") from None
    return assemble("csv", [Block("table", table_text(rows))], title=None, pages=None, warnings=())


def _assemble_late(
    name: str, title: str | None, pages: int | None, blocks: Iterator[Block], warnings: list[str]
) -> ExtractedDocument:
    """Assemble after all blocks were read, since reading them adds warnings."""
    collected = list(blocks)
    return assemble(name, collected, title=title, pages=pages, warnings=warnings)


def _office(part: str) -> Callable[[Path, bytes], bool]:
    def recognises(path: Path, head: bytes) -> bool:
        return head.startswith(b"PK\x03\x04") and part in office.check_archive(path)

    return recognises


def _suffix(*suffixes: str) -> Callable[[Path, bytes], bool]:
    return lambda path, head: path.suffix.lower() in suffixes


def _looks_like_html(path: Path, head: bytes) -> bool:
    if path.suffix.lower() in (".html", ".htm", ".xhtml"):
        return True
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


FORMATS: tuple[DocumentFormat, ...] = (
    DocumentFormat("pdf", (".pdf",), lambda path, head: b"%PDF-" in head[:1024], _read_pdf),
    DocumentFormat("docx", (".docx", ".docm"), _office("word/document.xml"), _read_docx),
    DocumentFormat("pptx", (".pptx", ".pptm"), _office("ppt/presentation.xml"), _read_pptx),
    DocumentFormat("xlsx", (".xlsx", ".xlsm"), _office("xl/workbook.xml"), _read_xlsx),
    DocumentFormat("eml", (".eml",), _suffix(".eml"), _read_email),
    DocumentFormat("html", (".html", ".htm", ".xhtml"), _looks_like_html, _read_html),
    DocumentFormat("csv", (".csv", ".tsv"), _suffix(".csv", ".tsv"), _read_csv),
    DocumentFormat("markdown", (".md", ".markdown"), _suffix(".md", ".markdown"), _read_markdown),
    DocumentFormat("text", (".txt", ".text", ".log", ".rst"), lambda path, head: b"\0" not in head, _read_plain_text),
)

SUFFIXES = frozenset(suffix for file_format in FORMATS for suffix in file_format.suffixes)
"""Suffixes of the files that are taken from a folder."""


def extract(path: Path, max_pages: int) -> ExtractedDocument:
    """Extract the text of one file. Raises :class:`DocumentError` with the reason if it cannot be read."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DocumentError("it is not a regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DocumentError(f"it cannot be read ({error.strerror})") from None
    if size == 0:
        raise DocumentError("it is empty")
    if size > MAX_FILE_BYTES:
        raise DocumentError(f"it has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise DocumentError("it is encrypted, or in the old binary Office format; save it as DOCX, PPTX or XLSX")
    for file_format in FORMATS:
        if file_format.recognises(path, head):
            document = file_format.read(path, max_pages)
            if not document.text:
                reason = "; ".join(document.warnings)
                raise DocumentError("it holds no text" + (f" ({reason})" if reason else ""))
            if len(document.text) > MAX_TEXT_BYTES:
                raise DocumentError(
                    f"its text has {len(document.text):,} bytes; at most {MAX_TEXT_BYTES:,} are indexed"
                )
            return document
    raise DocumentError("its format is not known; known are " + ", ".join(each.name for each in FORMATS))


def _text(path: Path) -> str:
    """Decode a text file: UTF-8, UTF-16 with a byte order mark, otherwise Windows-1252."""
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")
