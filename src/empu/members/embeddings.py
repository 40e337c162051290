"""Linear classifier on the vectors of a frozen text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from empu.members.member import EMBEDDINGS, FloatArray, LinearLayer


class TextEncoder(Protocol):
    """The part of an installed encoder that is needed here."""

    @property
    def id(self) -> str:
        """Name and hash of the weights."""

    def encode_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors (texts, width)."""


class EmbeddingMember:
    """Member on text embeddings."""

    name = EMBEDDINGS

    def __init__(self, encoder: TextEncoder, layer: LinearLayer) -> None:
        self.encoder, self.layer = encoder, layer

    def log_probabilities(self, texts: Sequence[str]) -> FloatArray:
        return self.of_vectors(self.encoder.encode_queries(texts))

    def of_vectors(self, vectors: npt.NDArray[np.float32]) -> FloatArray:
        """Like :meth:`log_probabilities`, for texts whose vectors (texts, width) are there already."""
        return np.stack([self.layer(slice(None), vector.astype(np.float64)) for vector in vectors])

    def settings(self) -> dict[str, Any]:
        return {"encoder": self.encoder.id}

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        return {"weight": self.layer.weight, "bias": self.layer.bias}

    @property
    def size_bytes(self) -> int:
        """Size on disk, without the encoder, which other parts of the store share."""
        return sum(array.nbytes for array in self.tensors().values())
