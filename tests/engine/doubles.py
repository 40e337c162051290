"""Test doubles for the scheduler: a backend with uniform logits, and a collector of updates."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from empu.checkpoint.lora_adapter import LoraAdapter
from empu.config import preset
from empu.engine.backends.protocol import Chunk, LogitsNeeded, SequenceId
from empu.engine.outputs import Completion, TextDelta
from empu.engine.request import RequestUpdate
from empu.errors import CacheFullError


class UniformBackend:
    """Every token is equally likely. Records each batch.

    Holds at most ``max_sequences`` sequences, whose capacities sum to at most ``max_tokens``.
    """

    name = "uniform"
    batch_invariant = True
    config = preset("tiny")
    context_length = 200

    def __init__(self, max_sequences: int = 1000, max_tokens: int = 1_000_000) -> None:
        self.sequences: dict[SequenceId, list[int]] = {}
        self.batches: list[list[Chunk]] = []
        self.gate: threading.Event | None = None
        """While it is set to an event that did not happen, :meth:`forward` blocks."""
        self.capacities: dict[SequenceId, int] = {}
        self._max_sequences = max_sequences
        self._max_tokens = max_tokens
        self._next_id = itertools.count(1)

    def with_adapter(self, adapter: LoraAdapter) -> Self:
        return copy.copy(self)

    def allocate(self, capacity: int) -> SequenceId:
        allocated = sum(self.capacities[sequence] for sequence in self.sequences)
        if len(self.sequences) >= self._max_sequences or allocated + capacity > self._max_tokens:
            raise CacheFullError("There is no room for another sequence; wait.")
        sequence = SequenceId(next(self._next_id))
        self.sequences[sequence] = []
        self.capacities[sequence] = capacity
        return sequence

    def release(self, sequence: SequenceId) -> None:
        del self.sequences[sequence]

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        prefix = self.sequences[sequence][:length]
        assert len(prefix) == length
        forked = self.allocate(capacity)
        self.sequences[forked] = prefix
        return forked

    def length(self, sequence: SequenceId) -> int:
        return len(self.sequences[sequence])

    def truncate(self, sequence: SequenceId, length: int) -> None:
        del self.sequences[sequence][length:]

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        if self.gate is not None:
            assert self.gate.wait(10)
        assert len({chunk.sequence for chunk in batch}) == len(batch)
        self.batches.append(list(batch))
        logits = []
        for chunk in batch:
            self.sequences[chunk.sequence] += chunk.tokens.tolist()
            assert len(self.sequences[chunk.sequence]) <= self.capacities[chunk.sequence]
            num_rows = 0 if chunk.logits_needed is LogitsNeeded.NONE else 1
            logits.append(np.zeros((num_rows, self.config.vocab_size), dtype=np.float32))
        return logits


class UpdateCollector:
    """Collects the updates of one request."""

    def __init__(self) -> None:
        self.updates: list[RequestUpdate] = []
        self._ended = threading.Event()

    def __call__(self, update: RequestUpdate) -> None:
        self.updates.append(update)
        if not isinstance(update, TextDelta):
            self._ended.set()

    @property
    def deltas(self) -> list[TextDelta]:
        return [update for update in self.updates if isinstance(update, TextDelta)]

    @property
    def tokens(self) -> list[int]:
        return [token for delta in self.deltas for token in delta.tokens]

    @property
    def completion(self) -> Completion:
        assert self._ended.wait(20), "the request never ended"
        last = self.updates[-1]
        assert isinstance(last, Completion), last
        assert len(self.updates) - len(self.deltas) == 1
        return last

    @property
    def error(self) -> Exception:
        assert self._ended.wait(20)
        last = self.updates[-1]
        assert isinstance(last, Exception)
        return last
