"""What a member of a label specialist is, and the linear layer that members end with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LANGUAGE_MODEL, TFIDF, EMBEDDINGS = "lm", "tfidf", "embeddings"
MEMBERS = (LANGUAGE_MODEL, TFIDF, EMBEDDINGS)
"""Names as ``--members`` and the files have them."""

TITLES = {
    LANGUAGE_MODEL: "language model alone",
    TFIDF: "TF-IDF + linear SVM",
    EMBEDDINGS: "text embeddings + logistic regression",
}
"""Name -> how tables call the member alone."""


class Member(Protocol):
    """A classifier of texts that is small beside the language model."""

    name: str

    def log_probabilities(self, texts: Sequence[str]) -> FloatArray:
        """(texts, labels): log-probabilities. A text has the same alone and in any batch."""

    def settings(self) -> dict[str, Any]:
        """Return what the JSON file has of the member."""

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the member's arrays by name."""

    @property
    def size_bytes(self) -> int:
        """Size on disk."""


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """Softmax of an affine map: weight (features, labels), bias (labels,)."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def __call__(self, indices: npt.NDArray[np.int64] | slice, values: FloatArray) -> FloatArray:
        """(labels,): log-probabilities for one vector, given by its non-zero ``values`` and their ``indices``."""
        return log_softmax(values @ self.weight[indices].astype(np.float64) + self.bias)


def log_softmax(scores: FloatArray) -> FloatArray:
    """Normalise over the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def mix(tables: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
    """(texts, labels): log-probabilities of the log-linear mixture, p ~ product of each member's p ** weight."""
    return log_softmax(np.sum([weight * tables[name] for name, weight in weights.items()], axis=0))
