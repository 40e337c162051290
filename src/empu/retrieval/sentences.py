"""Sentences of a passage with their byte ranges: the smallest pieces that an answer quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TITLE = re.compile(r"[^|\-*+•\d].*[^.!?…:|)\d%]")
MAX_BYTES = 600
"""A longer sentence is quoted in pieces that end at a comma, a semicolon or a space."""

_HARD_BREAK = re.compile(r"\n[ \t]*\n\s*|\n(?=[ \t]*(?:\||[-*+•][ \t]|\d{1,3}[.)][ \t]))|(?<=\|)[ \t]*\n")
"""Blank lines, and line ends before an item or at a row of a table."""
_TABLE_RULE = re.compile(r"[|:\- \t]+")
_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+(?=[\"'(\[*\w])")
_ABBREVIATION = re.compile(
    r"(?:^\d{1,3}|\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|No|St|vs|etc|e\.g|i\.e|dll|dsb|hlm|Jl|Bpk|Tn|Ny))\.$"
)
_SOFT_END = re.compile(r"[,;:]\s+|\s+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, a row of a table, or an item of a list."""

    start: int
    end: int
    """Byte range relative to the passage."""
    text: str
    header: str | None = None
    """The header row, for a row of a table."""

    @property
    def looks_like_title(self) -> bool:
        """Whether this is a short line without punctuation at its end, as headings are: it answers nothing itself."""
        return len(self.text) < 80 and "\n" not in self.text and bool(_TITLE.fullmatch(self.text))


def split_sentences(passage: str) -> Iterator[Sentence]:
    """Yield the sentences of a passage, in order. White space between them belongs to none."""
    position = 0  # in characters
    offset = 0  # the same place in bytes
    header: str | None = None
    for start, end in _ranges(passage):
        offset += len(passage[position:start].encode())
        text = passage[start:end]
        size = len(text.encode())
        position = end
        if not text.startswith("|"):
            header = None
        if not _TABLE_RULE.fullmatch(text):
            yield Sentence(offset, offset + size, text, header)
            if text.startswith("|") and header is None:
                header = text
        offset += size


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    """Character ranges of the sentences. A line end counts as a space, except around rows, items and blank lines."""
    start = 0
    for line_break in [*_HARD_BREAK.finditer(text), None]:
        end = len(text) if line_break is None else line_break.start()
        yield from _sentence_ranges(text, start, end)
        start = len(text) if line_break is None else line_break.end()


def _sentence_ranges(text: str, start: int, limit: int) -> Iterator[tuple[int, int]]:
    for match in [*_END.finditer(text, start, limit), None]:
        end = limit if match is None else match.start()
        following = limit if match is None else match.end()
        if match is not None and _ABBREVIATION.search(text[start:end]):
            continue
        if match is not None and match.group()[:1] in "\"')]":
            end = match.end() - len(match.group()) + len(match.group().rstrip())
        yield from _trimmed(text, start, end)
        start = following


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Drop white space at both ends, and cut what is too long."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > MAX_BYTES:
        cut = None
        for match in _SOFT_END.finditer(text, start + MAX_BYTES // 2, start + MAX_BYTES):
            cut = match
        stop = cut.start() + len(cut.group().rstrip()) if cut is not None else start + MAX_BYTES
        yield start, stop
        start = cut.end() if cut is not None else stop
    if end > start:
        yield start, end
