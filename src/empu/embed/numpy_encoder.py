"""The forward pass of BERT in numpy, in float32: the oracle of the native encoder, and what runs without it.

Each text is encoded alone. Shape letters: T tokens, H heads, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from empu.embed.bert_config import EncoderConfig
from empu.embed.weights import WORD_EMBEDDINGS, EncoderWeights, rows, tensor

FloatArray = npt.NDArray[np.float32]
LayerWeights = dict[str, FloatArray]


class NumpyEncoder:
    """Runs an encoder's weights. Matrices are unpacked to float32 when it opens, word embeddings when they are used."""

    def __init__(self, config: EncoderConfig, weights: EncoderWeights) -> None:
        """Raises :class:`CheckpointError` for missing tensors."""
        self.config = config
        self._weights = weights
        self._position_embeddings, self._type_embeddings = (
            self._tensor(f"embeddings.{kind}_embeddings.weight") for kind in ("position", "token_type")
        )
        self._embedding_norm = self._tensor("embeddings.LayerNorm.weight"), self._tensor("embeddings.LayerNorm.bias")
        self._layers = [self._layer_weights(f"encoder.layer.{i}") for i in range(config.layers)]

    def embed_ids(self, batch: Sequence[Sequence[int]]) -> FloatArray:
        """Unit vectors (texts, D)."""
        vectors = [self._forward(np.asarray(ids)) for ids in batch]
        return np.stack(vectors) if vectors else np.zeros((0, self.config.dim), np.float32)

    def _forward(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """(T,) token ids -> (D,) unit vector."""
        words_td = rows(self._weights, WORD_EMBEDDINGS, ids)
        x_td = words_td + self._position_embeddings[: len(ids)] + self._type_embeddings[0]
        x_td = _layer_norm(x_td, *self._embedding_norm, self.config.norm_eps)
        for layer in self._layers:
            x_td = self._block(layer, x_td)
        mean_d = x_td.mean(axis=0)
        return np.asarray(mean_d / max(float(np.linalg.norm(mean_d)), 1e-12), dtype=np.float32)

    def _block(self, layer: LayerWeights, x_td: FloatArray) -> FloatArray:
        """One post-norm layer: self-attention, then feed-forward."""
        attention = _linear(layer, "attention.output.dense", self._attention(layer, x_td))
        x_td = self._norm(layer, "attention.output", x_td + attention)
        hidden = _gelu(_linear(layer, "intermediate.dense", x_td))
        return self._norm(layer, "output", x_td + _linear(layer, "output.dense", hidden))

    def _attention(self, layer: LayerWeights, x_td: FloatArray) -> FloatArray:
        """Bidirectional attention (T, D), before the output projection."""
        tokens, dim = x_td.shape
        head_dim = dim // self.config.heads
        query, key, value = (
            _linear(layer, f"attention.self.{name}", x_td)
            .reshape(tokens, self.config.heads, head_dim)
            .transpose(1, 0, 2)  # (H, T, D/H)
            for name in ("query", "key", "value")
        )
        scores_htt = query @ key.transpose(0, 2, 1) / np.float32(head_dim**0.5)
        weights_htt = np.exp(scores_htt - scores_htt.max(axis=-1, keepdims=True))
        weights_htt /= weights_htt.sum(axis=-1, keepdims=True)
        return np.asarray((weights_htt @ value).transpose(1, 0, 2).reshape(tokens, dim))

    def _norm(self, layer: LayerWeights, name: str, x_td: FloatArray) -> FloatArray:
        weight, bias = layer[f"{name}.LayerNorm.weight"], layer[f"{name}.LayerNorm.bias"]
        return _layer_norm(x_td, weight, bias, self.config.norm_eps)

    def _layer_weights(self, prefix: str) -> LayerWeights:
        modules = [f"attention.self.{name}" for name in ("query", "key", "value")]
        modules += ["attention.output.dense", "intermediate.dense", "output.dense"]
        modules += ["attention.output.LayerNorm", "output.LayerNorm"]
        names = [f"{module}.{parameter}" for module in modules for parameter in ("weight", "bias")]
        return {name: self._tensor(f"{prefix}.{name}") for name in names}

    def _tensor(self, name: str) -> FloatArray:
        return tensor(self._weights, name)


def _linear(layer: LayerWeights, name: str, x: FloatArray) -> FloatArray:
    return np.asarray(x @ layer[f"{name}.weight"].T + layer[f"{name}.bias"], dtype=np.float32)


def _layer_norm(x: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(eps)) * weight + bias, dtype=np.float32)


def _gelu(x: FloatArray) -> FloatArray:
    """x Phi(x), with the error function of Abramowitz and Stegun 7.1.26 (error at most 1.5e-7)."""
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - polynomial * np.exp(-z * z))
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)
