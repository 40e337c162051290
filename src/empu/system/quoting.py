"""Names out of files and requests, made fit for error messages."""

from __future__ import annotations

MAX_QUOTED = 80
"""Characters of a quoted name."""


def quoted(text: str, limit: int = MAX_QUOTED) -> str:
    """Return ``text`` in quotes, with control characters escaped and everything after ``limit`` characters cut."""
    return repr(shortened(text, limit))


def shortened(text: str, limit: int) -> str:
    """Return ``text`` cut to ``limit`` characters, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[:limit] + "…"
