"""Cell values of binary formats as JSON would have them, and the libraries that read these formats."""

from __future__ import annotations

import importlib
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from empu.errors import MissingDependencyError


def import_library(name: str, path: Path) -> Any:
    """Import a module that comes with the extra ``tune``. Raises :class:`~empu.errors.MissingDependencyError`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.split(".")[0]
        raise MissingDependencyError(
            f"{path} needs the library {library}, which is not installed; `pip install 'empu[tune]'` installs it."
        ) from error


def json_value(value: Any) -> Any:
    """Return a cell as JSON would have it: dates in ISO form, whole decimals and floats without a point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [json_value(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): json_value(inner) for key, inner in value.items()}
    return value
