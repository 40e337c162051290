"""An extracted document: its text, and the blocks (headings, paragraphs, tables) that the text consists of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from empu.errors import EmpuError

BlockKind = Literal["heading", "paragraph", "list", "table", "code"]

SEPARATOR = "\n\n"
"""Stands between two blocks in the text of a document."""


class DocumentError(EmpuError):
    """A document cannot be read. The message names the reason, without the path."""


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a document as an extractor finds it."""

    kind: BlockKind
    text: str
    page: int | None = None
    """Page, slide or sheet, counted from 1; ``None`` for formats without pages."""
    level: int = 0
    """Level of a heading, from 1."""


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A block and its place in the document's text."""

    kind: BlockKind
    start: int
    end: int
    """Byte range in the UTF-8 text of the document."""
    page: int | None
    headings: tuple[str, ...]
    """Titles of the sections that contain this block, outermost first."""


@dataclass(frozen=True, slots=True)
class ExtractedDocument:
    """Text of a document in UTF-8, its blocks in order, and what was not read."""

    format: str
    title: str | None
    text: bytes
    blocks: tuple[PlacedBlock, ...]
    pages: int | None = None
    warnings: tuple[str, ...] = ()

    def slice(self, start: int, end: int) -> str:
        """Text of a byte range."""
        return self.text[start:end].decode("utf-8", "replace")


def assemble(
    file_format: str, blocks: Iterable[Block], *, title: str | None, pages: int | None, warnings: Iterable[str]
) -> ExtractedDocument:
    """Join blocks to a document. Empty blocks are dropped; a heading names the blocks that follow it."""
    parts: list[bytes] = []
    placed: list[PlacedBlock] = []
    sections: list[tuple[int, str]] = []
    position = 0
    for block in blocks:
        text = clean(block.text)
        if not text:
            continue
        encoded = text.encode("utf-8")
        if parts:
            position += len(SEPARATOR)
        if block.kind == "heading":
            level = max(1, block.level)
            sections = [section for section in sections if section[0] < level] + [(level, " ".join(text.split()))]
        headings = tuple(name for _, name in sections)
        placed.append(PlacedBlock(block.kind, position, position + len(encoded), block.page, headings))
        parts.append(encoded)
        position += len(encoded)
    first_heading = next((block.headings[-1] for block in placed if block.kind == "heading"), None)
    return ExtractedDocument(
        file_format,
        title or first_heading,
        SEPARATOR.encode().join(parts),
        tuple(placed),
        pages,
        tuple(warnings),
    )


_CONTROLS = {code: None for code in range(32) if chr(code) not in "\n\t"} | {0x7F: None, 0xFEFF: None, 0xFFFE: None}


def clean(text: str) -> str:
    """Normalise line ends, drop control characters and lone surrogates, and trim blank lines at both ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROLS)
    text = text.encode("utf-8", "ignore").decode("utf-8")
    lines = [line.rstrip() for line in text.split("\n")]
    return "\n".join(lines).strip("\n").rstrip()


def table_text(rows: Iterable[Iterable[str]]) -> str:
    """Rows as a Markdown table without the rule below the header: ``| a | b |``, one row a line."""
    lines = []
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        if any(cells):
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
