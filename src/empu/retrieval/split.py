"""Splits a document into passages: whole blocks under the same headings where they fit, sentences where they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from empu.retrieval.extract.document import ExtractedDocument, PlacedBlock

MAX_BYTES = 1_000
"""Longest passage, in bytes of UTF-8 (a longer single word stays whole)."""
MIN_BYTES = 300
"""A passage shorter than this continues across the next heading of the same or a deeper level."""

_SENTENCE_END = re.compile(rb"[.!?\xe2\x80\xa6][\"')\]]*\s+|\n+")
_WORD_END = re.compile(rb"\s+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a document that is indexed, found and cited as one."""

    start: int
    end: int
    """Byte range in the UTF-8 text of the document."""
    page: int | None
    headings: tuple[str, ...]
    """Titles of the sections that contain the whole passage, outermost first."""
    context: str = ""
    """Text from elsewhere in the document that the passage needs to be understood: the header row of a split table."""


def split(document: ExtractedDocument, *, max_bytes: int = MAX_BYTES, min_bytes: int = MIN_BYTES) -> Iterator[Passage]:
    """Yield the passages of a document, in order. Together they cover every block. No passage spans two pages."""
    open_passage: Passage | None = None
    only_headings = True
    for block in document.blocks:
        if open_passage is not None:
            length = open_passage.end - open_passage.start
            starts_section = block.kind == "heading" and length >= min_bytes
            starts_page = block.page != open_passage.page
            is_full = block.end - open_passage.start > max_bytes and not only_headings
            if starts_section or starts_page or is_full:
                yield open_passage
                open_passage = None
        start = open_passage.start if open_passage is not None and only_headings else block.start
        if block.end - start > max_bytes:
            # Headings stay with the first piece of the block below them.
            yield from _split_block(document, block, start, max_bytes)
            open_passage = None
        elif open_passage is None:
            open_passage = Passage(block.start, block.end, block.page, block.headings)
            only_headings = block.kind == "heading"
        else:
            open_passage = replace(
                open_passage,
                end=block.end,
                headings=block.headings if only_headings else _common(open_passage.headings, block.headings),
            )
            only_headings = only_headings and block.kind == "heading"
    if open_passage is not None:
        yield open_passage


def _split_block(document: ExtractedDocument, block: PlacedBlock, begin: int, max_bytes: int) -> Iterator[Passage]:
    """Pieces of a block that is too long: rows of a table, lines of code and lists, otherwise sentences.

    ``begin`` is where the first piece begins: at the headings before the block, if there are any.
    """
    text = document.text[begin : block.end]
    context = ""
    if block.kind == "table":
        header, _, _ = document.text[block.start : block.end].partition(b"\n")
        if len(header) <= max_bytes // 2:
            context = header.decode("utf-8", "replace")
    boundary = re.compile(rb"\n+") if block.kind in ("table", "code", "list") else _SENTENCE_END
    is_first = True
    for start, end in _pieces(text, boundary, max_bytes):
        yield Passage(
            begin + start,
            begin + end,
            block.page,
            block.headings,
            "" if is_first else context,
        )
        is_first = False


def _pieces(text: bytes, boundary: re.Pattern[bytes], max_bytes: int) -> Iterator[tuple[int, int]]:
    """Byte ranges of at most ``max_bytes`` that end at a boundary if possible, else at a space or a character."""
    start = 0
    while len(text) - start > max_bytes:
        limit = start + max_bytes
        cut = _last_match(boundary, text, start + max_bytes // 4, limit) or _last_match(
            _WORD_END, text, start + 1, limit
        )
        if cut is None:
            cut = limit
            while cut > start + 1 and text[cut] & 0xC0 == 0x80:  # do not cut inside a character
                cut -= 1
        end = start + len(text[start:cut].rstrip())
        if end > start:
            yield start, end
        start = cut
    end = start + len(text[start:].rstrip())
    if end > start:
        yield start, end


def _last_match(pattern: re.Pattern[bytes], text: bytes, low: int, high: int) -> int | None:
    last = None
    for match in pattern.finditer(text, low, high):
        last = match.end()
    return last


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return first[:count]
