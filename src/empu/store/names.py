"""Names of models: which are valid, and how one is derived from a file name."""

from __future__ import annotations

import re

from empu.errors import UsageError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DEFAULT_NAME = "default"
"""Name of the one pinned model of ``empu pull default``. It can name no other model."""


def check_name(name: str) -> None:
    """Raise :class:`~empu.errors.UsageError` unless ``name`` is a valid model name."""
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a model's name; use up to 64 lower-case letters, digits, '.', '_' and '-', starting "
            "with a letter or digit."
        )


def name_from_text(text: str) -> str:
    """Derive a valid name from the name of a file or repository."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", text.casefold()).strip("-._")
    return slug[:64].rstrip("-._") or "model"
