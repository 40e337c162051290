"""How an engine keeps what it computes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empu.errors import UsageError

QUANTS = ("q8", "q4")
CACHES = ("bf16", "q8")


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
    quant: str | None = None
    """``q8`` or ``q4``: weights of more bits are rounded to so many when they are packed; ``None``: as the engine keeps
    each type."""
    kv: str = "bf16"
    """Keys and values of earlier tokens: ``bf16``, or ``q8``, 8-bit numbers with a 16-bit scale for each position and
    head, in half the memory."""

    def __post_init__(self) -> None:
        if self.quant not in (None, *QUANTS):
            raise UsageError(f"Weights cannot be kept as {self.quant!r}; there are {', '.join(QUANTS)}.")
        if self.kv not in CACHES:
            raise UsageError(f"Keys and values cannot be kept as {self.kv!r}; there are {', '.join(CACHES)}.")

    def refuse(self, engine: str) -> None:
        """Raise for an engine that knows none of these wishes. Packed weights are no wish: they change nothing."""
        if self.quant is not None:
            raise UsageError(f"The {engine} engine takes weights as they are stored; leave --quant, or --engine, away.")
        if self.kv != "bf16":
            raise UsageError(
                f"The {engine} engine keeps keys and values in its own way; leave --kv, or --engine, away."
            )


AS_IT_IS = Storage()
