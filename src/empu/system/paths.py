"""File paths as users type them."""

from __future__ import annotations

import os
from pathlib import Path

from empu.errors import UsageError
from empu.system.quoting import shortened

_MAX_SHOWN = 60
"""Characters of an unusable path in an error message."""


def user_path(text: str | os.PathLike[str]) -> Path:
    """Return the path with ``~`` expanded. Raises :class:`UsageError` for text that cannot be a path."""
    try:
        path = Path(text).expanduser()
        path.exists()  # asks the operating system, which raises for impossible names
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        shown = shortened(os.fspath(text), _MAX_SHOWN)
        raise UsageError(f"{shown} cannot be a path ({reason}); check its spelling.") from None
    return path
