"""What earlier prompts left in the cache, so that a prompt with the same beginning is not read again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from empu.engine.backends.protocol import Backend, SequenceId


class Prefixes:
    """The most recently used finished sequences, at most ``count`` of them, each of one model: a backend, or a view of
    it with an adapter.
    """

    def __init__(self, backend: Backend, count: int) -> None:
        self._backend = backend
        self._count = count
        self._held: OrderedDict[SequenceId, tuple[Backend, list[int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def best(self, model: Backend, ids: Sequence[int]) -> tuple[SequenceId, int] | None:
        """The model's sequence that shares most with ``ids``, and how many tokens; at least one of ``ids`` is left."""
        lengths = {sequence: shared(held, ids) for sequence, (of, held) in self._held.items() if of is model}
        found = max(lengths, key=lengths.__getitem__, default=None)
        if found is None or not lengths[found]:
            return None
        self._held.move_to_end(found)
        return found, lengths[found]

    def keep(self, model: Backend, sequence: SequenceId, ids: list[int]) -> None:
        """Take over a sequence of ``model`` that holds ``ids``. One that another one continues is given back."""
        if not self._count or not ids:
            self._backend.release(sequence)
            return
        self._held[sequence] = model, ids
        for other, (of, theirs) in list(self._held.items()):
            if other != sequence and of is model and ids[: len(theirs)] == theirs:
                self._drop(other)
        while len(self._held) > self._count:
            self.forget_oldest()

    def forget_oldest(self) -> bool:
        """Give back the one that was not used for longest; whether there was one."""
        if not self._held:
            return False
        self._drop(next(iter(self._held)))
        return True

    def clear(self) -> None:
        """Give all back."""
        while self.forget_oldest():
            pass

    def _drop(self, sequence: SequenceId) -> None:
        del self._held[sequence]
        self._backend.release(sequence)


def shared(held: Sequence[int], ids: Sequence[int]) -> int:
    """Length of the common beginning, at most ``len(ids) - 1``, since logits come from reading a token."""
    limit = min(len(held), len(ids) - 1)
    if list(held[:limit]) == list(ids[:limit]):
        return limit
    for i in range(limit):
        if held[i] != ids[i]:
            return i
    return limit
