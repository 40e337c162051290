"""Markdown: headings, paragraphs, lists, tables and code blocks, by lines. The text of a block stays as written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from empu.retrieval.extract.document import Block, BlockKind

_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"^ {0,3}(?:[-*+]|\d{1,9}[.)])[ \t]+")
_RULE = re.compile(r"^ {0,3}(?:[-*_][ \t]*){3,}$")


def read_markdown(text: str) -> Iterator[Block]:
    """Yield the blocks of a Markdown text. Front matter between ``---`` lines at the top is skipped."""
    lines = text.split("\n")
    i = _after_front_matter(lines)
    while i < len(lines):
        line = lines[i]
        if not line.strip() or _RULE.match(line):
            i += 1
        elif heading := _HEADING.match(line):
            yield Block("heading", heading[2] or "", level=len(heading[1]))
            i += 1
        elif fence := _FENCE.match(line):
            end = _end_of_fence(lines, i, fence[1])
            yield Block("code", "\n".join(lines[i + 1 : end]))
            i = end + 1
        else:
            end = i + 1
            while end < len(lines) and _continues(lines, end):
                end += 1
            if end < len(lines) and end == i + 1 and (under := _UNDERLINE.match(lines[end])):
                yield Block("heading", line.strip(), level=1 if under[1][0] == "=" else 2)
                end += 1
            else:
                yield Block(_kind(lines[i:end]), "\n".join(lines[i:end]))
            i = end


def _after_front_matter(lines: list[str]) -> int:
    if lines and lines[0].strip() == "---":
        for i, line in enumerate(lines[1:200], 1):
            if line.strip() in ("---", "..."):
                return i + 1
    return 0


def _end_of_fence(lines: list[str], begin: int, fence: str) -> int:
    for i in range(begin + 1, len(lines)):
        stripped = lines[i].strip()
        if stripped.startswith(fence) and not stripped.strip(fence[0]):
            return i
    return len(lines)


def _continues(lines: list[str], i: int) -> bool:
    line = lines[i]
    if _UNDERLINE.match(line) and not line.lstrip().startswith("- "):
        return False
    return bool(line.strip()) and not _HEADING.match(line) and not _FENCE.match(line)


def _kind(lines: list[str]) -> BlockKind:
    if _ITEM.match(lines[0]):
        return "list"
    if len(lines) > 1 and lines[0].count("|") and re.fullmatch(r"[ \t|:-]*-[ \t|:-]*", lines[1]):
        return "table"
    return "paragraph"
