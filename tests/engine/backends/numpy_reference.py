"""The oracle of the native engine: one Llama forward pass in numpy float32, short and slow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from empu.checkpoint.base import Checkpoint
from empu.engine.backends.native_weights import rope_frequencies

FloatArray = npt.NDArray[np.float32]


class NumpyReference:
    """Runs one sequence at a time, without a cache, with unpacked weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.weights = {tensor.name: tensor.float32() for tensor in checkpoint.tensors()}

    def logits(self, tokens: npt.NDArray[np.int32]) -> FloatArray:
        """(T, V) for tokens (T,)."""
        weights, config = self.weights, self.config
        x = weights["embedding.weight"][tokens]
        for i in range(config.n_layers):
            layer = f"layers.{i}."
            h = self._rms_norm(x, layer + "attention_norm.weight")
            q, k, v = (h @ weights[f"{layer}attention.{name}.weight"].T for name in "qkv")
            x = x + self._attend(q, k, v) @ weights[layer + "attention.o.weight"].T
            h = self._rms_norm(x, layer + "ffn_norm.weight")
            gate = h @ weights[layer + "feed_forward.gate.weight"].T
            up = h @ weights[layer + "feed_forward.up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[layer + "feed_forward.down.weight"].T
        output = weights["embedding.weight" if config.tie_embeddings else "output.weight"]
        logits: FloatArray = self._rms_norm(x, "norm.weight") @ output.T
        return logits

    def _rms_norm(self, x: FloatArray, name: str) -> FloatArray:
        scale = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self.config.norm_eps))
        return np.asarray(x * scale * self.weights[name], dtype=np.float32)

    def _attend(self, q: FloatArray, k: FloatArray, v: FloatArray) -> FloatArray:
        config, length = self.config, len(q)
        queries = self._apply_rope(q.reshape(length, config.n_heads, config.head_dim))
        keys = self._apply_rope(k.reshape(length, config.n_kv_heads, config.head_dim))
        values = v.reshape(length, config.n_kv_heads, config.head_dim)
        distance = np.arange(length)[:, None] - np.arange(length)
        is_masked = (distance < 0) | (distance >= (config.sliding_window or length))
        out = np.empty_like(queries)
        for head in range(config.n_heads):
            kv_head = head // (config.n_heads // config.n_kv_heads)
            scores = queries[:, head] @ keys[:, kv_head].T / np.float32(np.sqrt(config.head_dim))
            scores[is_masked] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = weights / weights.sum(axis=-1, keepdims=True) @ values[:, kv_head]
        return out.reshape(length, -1)

    def _apply_rope(self, x: FloatArray) -> FloatArray:
        angles = np.arange(len(x), dtype=np.float32)[:, None, None] * rope_frequencies(self.config)
        x0, x1 = x[..., 0::2], x[..., 1::2]
        rotated = [x0 * np.cos(angles) - x1 * np.sin(angles), x0 * np.sin(angles) + x1 * np.cos(angles)]
        return np.stack(rotated, axis=-1).reshape(x.shape)


def kl_divergence(reference: FloatArray, other: FloatArray) -> float:
    """Mean KL divergence over the rows of two (T, V) arrays of logits, in nats."""
    p, q = _log_softmax(reference), _log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())


def _log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    x = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))
