"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from empu.errors import UsageError

SHOWN = 60


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path with ``~`` resolved. Raises :class:`UsageError` for what no file can be called, here or at all."""
    try:
        path = Path(text).expanduser()
        path.exists()  # asks the system; the answer does not matter
    except (OSError, RuntimeError, ValueError) as error:
        said = os.fspath(text)
        short = said if len(said) <= SHOWN else said[:SHOWN] + "…"
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{short} cannot be a path ({why}); check its spelling.") from None
    return path
