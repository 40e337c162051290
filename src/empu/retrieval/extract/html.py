"""HTML, by selectolax (lexbor). Scripts, styles, navigation and hidden elements are skipped; nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from empu.retrieval.extract.document import Block, DocumentError, table_text

MAX_DEPTH = 400
"""Deeper elements are treated as text of their ancestor."""

_SKIPPED = frozenset(
    {"script", "style", "template", "noscript", "nav", "svg", "iframe", "object", "head", "button", "select", "form"}
)
_CONTAINERS = frozenset(
    {"html", "body", "div", "section", "article", "main", "header", "footer", "aside", "center", "details", "figure"}
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BREAKS = frozenset({"br", "p", "div", "li", "tr", "dt", "dd", "blockquote", "section", "article", "h1", "h2", "h3"})
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def read_html(text: str) -> tuple[str | None, Iterator[Block]]:
    """Return the page's title, and its blocks."""
    from selectolax.lexbor import LexborHTMLParser

    try:
        tree = LexborHTMLParser(text)
    except Exception as error:
        raise DocumentError(f"the HTML cannot be parsed ({error})") from None
    title = tree.css_first("title")
    name = " ".join(title.text().split()) if title is not None else None
    body = tree.css_first("main,[role=main]") or tree.body
    return name or None, iter(()) if body is None else _blocks(body, 0)


def _blocks(node: Any, depth: int) -> Iterator[Block]:
    """Blocks of a container. Runs of inline content between block elements become paragraphs."""
    inline: list[str] = []

    def flush() -> Iterator[Block]:
        text = _squeeze("".join(inline))
        inline.clear()
        if text:
            yield Block("paragraph", text)

    for child in _children(node):
        tag = child.tag
        if tag == "-text":
            inline.append(child.text_content or "")
        elif tag in _SKIPPED or tag.startswith(("-", "!")) or _is_hidden(child):
            pass
        elif tag in _HEADINGS:
            yield from flush()
            yield Block("heading", _inline_text(child, depth), level=_HEADINGS[tag])
        elif tag == "table":
            yield from flush()
            yield from _table(child, depth)
        elif tag in ("ul", "ol", "dl", "menu"):
            yield from flush()
            yield Block("list", _list_text(child, depth))
        elif tag in ("pre", "textarea"):
            yield from flush()
            yield Block("code", child.text())
        elif tag in _CONTAINERS and depth < MAX_DEPTH:
            yield from flush()
            yield from _blocks(child, depth + 1)
        elif tag in ("p", "blockquote", "address", "figcaption", "summary", "dd", "dt", "li"):
            yield from flush()
            yield Block("paragraph", _inline_text(child, depth))
        elif tag == "br":
            inline.append("\n")
        elif _has_block(child) and depth < MAX_DEPTH:
            yield from flush()
            yield from _blocks(child, depth + 1)
        else:
            inline.append(_inline_text(child, depth))
    yield from flush()


def _is_hidden(node: Any) -> bool:
    attributes = node.attributes
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") in ("navigation", "search", "menu", "menubar")
        or bool(_HIDDEN.search(attributes.get("style") or ""))
    )


def _has_block(node: Any) -> bool:
    return node.css_first("p,table,ul,ol,h1,h2,h3,h4,h5,h6,div,pre") is not None


def _inline_text(node: Any, depth: int) -> str:
    parts: list[str] = []
    _collect(node, parts, depth)
    return _squeeze("".join(parts))


def _collect(node: Any, parts: list[str], depth: int) -> None:
    for child in _children(node):
        tag = child.tag
        if tag == "-text":
            parts.append(child.text_content or "")
        elif tag in _SKIPPED or tag.startswith(("-", "!")) or _is_hidden(child):
            pass
        elif depth >= MAX_DEPTH:
            parts.append(child.text())
        else:
            if tag in _BREAKS:
                parts.append("\n")
            elif tag in ("td", "th"):
                parts.append("\t")
            elif tag == "img" and child.attributes.get("alt"):
                parts.append(f" {child.attributes['alt']} ")
            _collect(child, parts, depth + 1)
            if tag in _BREAKS:
                parts.append("\n")


def _table(node: Any, depth: int) -> Iterator[Block]:
    caption = node.css_first("caption")
    if caption is not None:
        yield Block("paragraph", _inline_text(caption, depth))
    rows: list[list[str]] = []
    spans: dict[int, tuple[int, str]] = {}
    for row in _rows(node):
        cells: list[str] = []
        for cell in _children(row):
            if cell.tag not in ("td", "th"):
                continue
            while len(cells) in spans:
                _fill(cells, spans)
            text = _inline_text(cell, depth)
            width = _span(cell.attributes.get("colspan"))
            height = _span(cell.attributes.get("rowspan"))
            for _ in range(width):
                if height > 1:
                    spans[len(cells)] = (height - 1, text)
                cells.append(text)
        while len(cells) in spans:
            _fill(cells, spans)
        rows.append(cells)
    yield Block("table", table_text(rows))


def _rows(table: Any) -> Iterator[Any]:
    """Rows of a table itself, not of tables inside its cells."""
    for child in _children(table):
        if child.tag == "tr":
            yield child
        elif child.tag in ("thead", "tbody", "tfoot"):
            yield from (row for row in _children(child) if row.tag == "tr")


def _fill(cells: list[str], spans: dict[int, tuple[int, str]]) -> None:
    """Repeat the text of a cell that spans several rows."""
    left, text = spans.pop(len(cells))
    if left > 1:
        spans[len(cells)] = (left - 1, text)
    cells.append(text)


def _span(value: str | None) -> int:
    return min(int(value), 100) if value is not None and value.isdigit() and int(value) > 0 else 1


def _list_text(node: Any, depth: int) -> str:
    lines = []
    for child in _children(node):
        if child.tag in ("li", "dt", "dd") and not _is_hidden(child):
            text = _inline_text(child, depth)
            mark = {"li": "- ", "dt": "", "dd": "  "}[child.tag]
            lines.append(mark + text.replace("\n", "\n  "))
    return "\n".join(lines)


def _children(node: Any) -> Iterator[Any]:
    child = node.first_child
    while child is not None:
        following = child.next
        yield child
        child = following


def _squeeze(text: str) -> str:
    lines = [re.sub(r"[ \t\f\v ]+", " ", line).strip() for line in text.split("\n")]
    return "\n".join(line for line in lines if line)
