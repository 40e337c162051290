"""How an engine keeps what it computes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class PackedPlace:
    """Where packed weights are kept between two starts."""

    folder: Path
    source: Mapping[str, Any] | None = None
    """What says which weights they are, as JSON; ``None``: the paths of the checkpoint's files and how they look."""
    tell: Callable[[str], None] = lambda sentence: None
    """Told when something takes long, and why weights could not be kept."""
    tidy: Callable[[], object] = lambda: None
    """Called after a file was added."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Wishes that only the native engine knows."""

    packed: PackedPlace | None = None
    """``None``: weights are packed at each start."""


AS_IT_IS = Storage()
