"""The contract between generation and arithmetic. Token ids in, logits out; a backend never sees text.

A batch is a list of chunks, each some tokens of one sequence: prefill chunks and decode steps stand side by side in one
forward pass. The torch backend and the native one both keep this contract and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NewType, Protocol, Self

import numpy as np
import numpy.typing as npt

from empu.checkpoint.adapter import Adapter
from empu.config import ModelConfig

SequenceId = NewType("SequenceId", int)
"""Names one sequence's key/value cache inside a backend."""


class Want(Enum):
    """Which logits a chunk should return. The output layer is skipped where nothing is wanted."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next tokens of one sequence, appended after what its cache already holds."""

    sequence: SequenceId
    tokens: npt.NDArray[np.int32]  # (T,), T >= 1
    want: Want = Want.LAST


class Backend(Protocol):
    """Something that can run the model. Not thread-safe: one caller at a time."""

    name: str
    """Shown to users, for example ``torch-cpu-float32``."""
    config: ModelConfig
    context: int
    """The most tokens that a sequence may have."""
    exact: bool
    """Whether logits are the same bits however tokens are divided into chunks and whatever else is in a batch."""

    def adapted(self, adapter: Adapter) -> Self:
        """The same backend, whose new sequences run with ``adapter`` beside the weights. Weights, caches and ids are
        shared with this one: either runs the sequences of both, in one batch too.
        """

    def allocate(self, capacity: int) -> SequenceId:
        """Reserve a cache for up to ``capacity`` tokens; raises :class:`~empu.errors.NoRoomError` when memory does not
        allow it.
        """

    def release(self, sequence: SequenceId) -> None:
        """Give the cache back; the id is invalid afterwards."""

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        """A new sequence that begins with the first ``length`` tokens of another, which stays as it is, and has its
        adapter.
        """

    def length(self, sequence: SequenceId) -> int:
        """Tokens that the cache holds."""

    def truncate(self, sequence: SequenceId, length: int) -> None:
        """Forget every token from position ``length`` on, so that other tokens may follow there."""

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        """Run all chunks; one array per chunk: (0, V), (1, V) or (T, V) float32 for ``Want`` NONE, LAST, ALL.

        Raises :class:`~empu.errors.EmpuError` for an unknown sequence, a token id outside the vocabulary, two chunks of
        one sequence, or a cache that would overflow; nothing has changed then.
        """
