"""Options of a backend that change how weights and the KV cache are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empu.errors import UsageError

WEIGHT_QUANTS = ("q8", "q4")
KV_CACHE_TYPES = ("bf16", "q8")


@dataclass(frozen=True, slots=True)
class WeightCacheLocation:
    """Where packed weights are stored between two starts."""

    folder: Path
    source: Mapping[str, Any] | None = None
    """JSON value that identifies the weights; ``None``: paths and stamps of the checkpoint's files."""
    on_message: Callable[[str], None] = lambda message: None
    """Called with messages for the user: that a write takes long, or why it failed."""
    on_added: Callable[[], object] = lambda: None
    """Called after a file was added, for example to delete old ones."""


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Options that only the native engine supports."""

    weight_cache: WeightCacheLocation | None = None
    """``None``: weights are packed at each start."""
    quant: str | None = None
    """``q8`` or ``q4``: weights with more bits are rounded to so many; ``None``: the engine's default for each type."""
    kv_cache: str = "bf16"
    """Type of the KV cache: ``bf16``, or ``q8``, 8-bit integers with a 16-bit scale per position and head, which takes
    half the memory.
    """

    def __post_init__(self) -> None:
        if self.quant not in (None, *WEIGHT_QUANTS):
            raise UsageError(f"Weights cannot be stored as {self.quant!r}; choose from {', '.join(WEIGHT_QUANTS)}.")
        if self.kv_cache not in KV_CACHE_TYPES:
            raise UsageError(
                f"The KV cache cannot be stored as {self.kv_cache!r}; choose from {', '.join(KV_CACHE_TYPES)}."
            )

    def require_defaults(self, engine: str) -> None:
        """Raise :class:`UsageError` unless quantisation and KV cache are the defaults.

        The weight cache may be set: it changes only the time to start.
        """
        if self.quant is not None:
            raise UsageError(f"The {engine} engine uses weights as they are stored; remove --quant or --engine.")
        if self.kv_cache != "bf16":
            raise UsageError(f"The {engine} engine has no choice of KV cache types; remove --kv or --engine.")


DEFAULT_OPTIONS = BackendOptions()
