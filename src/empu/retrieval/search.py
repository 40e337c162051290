"""Hybrid search: BM25 and vectors, fused by a weighted sum of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from empu.retrieval.collection import Collection, StoredPassage, Vectors

CANDIDATES = 100
"""Passages that each of the two searches contributes to the fusion."""
DENSE_WEIGHT = 0.6
"""Weight of the cosine in the fused score; BM25 has the rest. Measured in docs/LOG.md."""


class TextEncoder(Protocol):
    """Makes vectors of queries and passages."""

    @property
    def id(self) -> str:
        """Identifies the weights; vectors of different encoders are never compared."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (texts, width)."""

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (texts, width)."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, with its scores."""

    passage: StoredPassage
    score: float
    """Fused score, from 0 to 1."""
    bm25: float | None
    cosine: float | None


def search(
    collection: Collection,
    query: str,
    *,
    encoder: TextEncoder | None,
    count: int = 5,
    dense_weight: float = DENSE_WEIGHT,
) -> list[Hit]:
    """Return the ``count`` best passages for a query, best first.

    Without an encoder, or with vectors of another encoder in the collection, BM25 alone decides.
    """
    lexical = dict(collection.lexical(query, CANDIDATES))
    cosines: dict[int, float] = {}
    if encoder is not None and collection.setting("encoder") == encoder.id:
        ids, vectors = collection.matrix()
        if len(ids):
            similarities = vectors @ encoder.encode_queries([query])[0]
            best = _top(similarities, CANDIDATES)
            cosines = {int(ids[i]): float(similarities[i]) for i in best}
            for missing in set(lexical) - set(cosines):
                i = int(np.searchsorted(ids, missing))
                if i < len(ids) and ids[i] == missing:
                    cosines[missing] = float(similarities[i])
    fused = _fuse(lexical, cosines, dense_weight if cosines else 0.0)
    order = sorted(fused, key=lambda passage: (-fused[passage], passage))[:count]
    by_id = {passage.id: passage for passage in collection.passages(order)}
    return [Hit(by_id[i], fused[i], lexical.get(i), cosines.get(i)) for i in order if i in by_id]


def _fuse(lexical: dict[int, float], cosines: dict[int, float], dense_weight: float) -> dict[int, float]:
    """Scale both scores to 0..1 over the candidates and add them with their weights."""
    sparse = _scaled(lexical)
    dense = _scaled(cosines)
    return {
        i: (1 - dense_weight) * sparse.get(i, 0.0) + dense_weight * dense.get(i, 0.0) for i in set(sparse) | set(dense)
    }


def _scaled(scores: dict[int, float]) -> dict[int, float]:
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {i: (score - low) / (high - low) for i, score in scores.items()}


def _top(values: Vectors, count: int) -> list[int]:
    if len(values) <= count:
        return list(range(len(values)))
    return [int(i) for i in np.argpartition(values, -count)[-count:]]
