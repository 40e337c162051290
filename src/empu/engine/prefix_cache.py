"""Prefix cache: finished sequences stay in memory, so that a prompt with the same prefix skips that part of prefill."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from empu.engine.backends.protocol import Backend, SequenceId
from empu.text.common_prefix import common_prefix_length


class PrefixCache:
    """The most recently used finished sequences, at most ``max_sequences``. It owns them and releases them.

    Each belongs to one view of the backend: without an adapter, or with one.
    """

    def __init__(self, backend: Backend, max_sequences: int) -> None:
        self._backend = backend
        self._max_sequences = max_sequences
        self._sequences: OrderedDict[SequenceId, tuple[Backend, list[int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sequences)

    def longest_match(self, view: Backend, ids: Sequence[int]) -> tuple[SequenceId, int] | None:
        """Return the view's sequence with the longest reusable prefix of ``ids``, and that prefix's length."""
        lengths = {
            sequence: reusable_length(cached_ids, ids)
            for sequence, (other_view, cached_ids) in self._sequences.items()
            if other_view is view
        }
        best = max(lengths, key=lengths.__getitem__, default=None)
        if best is None or not lengths[best]:
            return None
        self._sequences.move_to_end(best)
        return best, lengths[best]

    def add(self, view: Backend, sequence: SequenceId, ids: list[int]) -> None:
        """Take over a sequence that holds ``ids``. Sequences that are a prefix of it are released."""
        if not self._max_sequences or not ids:
            self._backend.release(sequence)
            return
        self._sequences[sequence] = view, ids
        for other, (other_view, other_ids) in list(self._sequences.items()):
            if other != sequence and other_view is view and ids[: len(other_ids)] == other_ids:
                self._remove(other)
        while len(self._sequences) > self._max_sequences:
            self.evict()

    def evict(self) -> bool:
        """Release the least recently used sequence. Return ``False`` when there is none."""
        if not self._sequences:
            return False
        self._remove(next(iter(self._sequences)))
        return True

    def clear(self) -> None:
        """Release all sequences."""
        while self.evict():
            pass

    def _remove(self, sequence: SequenceId) -> None:
        del self._sequences[sequence]
        self._backend.release(sequence)


def reusable_length(cached_ids: Sequence[int], ids: Sequence[int]) -> int:
    """Return how many leading ``ids`` need no computation: the common prefix, at most ``len(ids) - 1``.

    At least one token has to be computed, since its logits are needed.
    """
    return min(common_prefix_length(cached_ids, ids), len(ids) - 1)
