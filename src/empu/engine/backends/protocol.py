"""The backend protocol: token ids in, logits out. A backend never sees text.

A batch is a list of chunks, each with some tokens of one sequence. Prefill chunks and decode steps run side by side in
one forward pass. The torch backend and the native one implement this protocol and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NewType, Protocol, Self

import numpy as np
import numpy.typing as npt

from empu.checkpoint.lora_adapter import LoraAdapter
from empu.config import ModelConfig

SequenceId = NewType("SequenceId", int)
"""Identifies one sequence's KV cache inside a backend."""


class LogitsNeeded(Enum):
    """Which tokens of a chunk need logits. The output layer is skipped for all others."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next tokens of one sequence. They are appended to its cache."""

    sequence: SequenceId
    tokens: npt.NDArray[np.int32]  # (T,), T >= 1
    logits_needed: LogitsNeeded = LogitsNeeded.LAST


class Backend(Protocol):
    """Runs a model. Not thread-safe: one caller at a time."""

    name: str
    """Shown to users, for example ``torch-cpu-float32``."""
    config: ModelConfig
    context_length: int
    """The maximum number of tokens of a sequence."""
    batch_invariant: bool
    """Whether logits are the same bits for any division into chunks and any other content of the batch."""

    def with_adapter(self, adapter: LoraAdapter) -> Self:
        """Return a view of this backend whose new sequences run with ``adapter``.

        Weights, caches and sequence ids are shared: either view runs the sequences of both, in one batch too.
        """

    def allocate(self, capacity: int) -> SequenceId:
        """Reserve a cache for up to ``capacity`` tokens.

        Raises :class:`~empu.errors.CacheFullError` when memory does not allow it.
        """

    def release(self, sequence: SequenceId) -> None:
        """Free the cache of a sequence; its id is invalid afterwards."""

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        """Return a new sequence that begins with the first ``length`` tokens of another and has its adapter.

        The other sequence does not change.
        """

    def length(self, sequence: SequenceId) -> int:
        """Return the number of tokens in the cache."""

    def truncate(self, sequence: SequenceId, length: int) -> None:
        """Drop every token from position ``length`` on."""

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        """Run all chunks. Return logits for each: (0, V), (1, V) or (T, V) float32 for NONE, LAST, ALL.

        Raises :class:`~empu.errors.EmpuError`, and changes nothing, for an unknown sequence, a token id outside the
        vocabulary, two chunks of one sequence, or a cache that would overflow.
        """
