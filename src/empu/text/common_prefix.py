"""The longest common prefix of sequences of token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def common_prefix_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many leading ids ``a`` and ``b`` have in common."""
    limit = min(len(a), len(b))
    if list(a[:limit]) == list(b[:limit]):  # the frequent case, at the speed of C
        return limit
    return next(i for i in range(limit) if a[i] != b[i])


def common_prefix(sequences: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return the longest prefix that all ``sequences`` share; empty when there are no sequences."""
    prefix: Sequence[int] | None = None
    for ids in sequences:
        prefix = ids if prefix is None else prefix[: common_prefix_length(prefix, ids)]
    return tuple(prefix or ())
