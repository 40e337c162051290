"""Find the header of a table that may have title rows above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from empu.data.columns import has_field_names

MAX_ROWS = 50
"""Rows that are searched."""
MAX_TITLES = 20
MAX_NAME_CHARS = 40


def find_header(rows: Iterable[Sequence[str]]) -> int:
    """Return the index of the header: the first row in which most cells of the table are filled.

    ``rows`` are the first non-empty rows, as text. Rows above the header are titles: one cell, or few, are filled. The
    first row is the header unless a later one looks more like a list of names, or has the names of fields.
    """
    filled = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    if not filled or has_field_names(filled[0]):
        return 0
    named = next((i for i, cells in enumerate(filled[:MAX_TITLES]) if has_field_names(cells)), None)
    if named is not None:
        return named
    width = Counter(len(cells) for cells in filled).most_common(1)[0][0]
    if width < 2 or not _is_title(filled[0], width):
        return 0
    for i, cells in enumerate(filled):
        if not _is_title(cells, width):
            return i if _are_names(cells) else 0
    return 0


def _is_title(cells: Sequence[str], width: int) -> bool:
    return len(cells) == 1 or 2 * len(cells) < width


def _are_names(cells: Sequence[str]) -> bool:
    names = {cell.casefold() for cell in cells}
    return len(names) == len(cells) and all(len(cell) <= MAX_NAME_CHARS and not _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace(",", "").lstrip("+-").isdigit()
