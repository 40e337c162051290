"""Metadata of GGUF files, read with the gguf package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from gguf import GGUFReader


@cache
def gguf_metadata(path: Path) -> dict[str, Any]:
    """Return all key/values of a GGUF file."""
    return {key: field.contents() for key, field in GGUFReader(path).fields.items()}
