"""The slow twin of the native engine: one Llama forward pass in numpy float32, and checkpoints that live in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from empu.checkpoint.base import Checkpoint, StoredTensor
from empu.checkpoint.blocks import BY_NAME
from empu.checkpoint.tensor_names import expected_shapes
from empu.config import ModelConfig
from empu.engine.backends.native_weights import rotary_frequencies

Floats = npt.NDArray[np.float32]


@dataclass
class MemoryCheckpoint(Checkpoint):
    """Tensors by our names."""

    stored: dict[str, StoredTensor] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.stored)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.stored[name].shape

    def tensor(self, name: str) -> StoredTensor:
        return self.stored[name]


def random_checkpoint(config: ModelConfig, type_name: str = "F32", seed: int = 0) -> MemoryCheckpoint:
    """Random weights whose matrices are stored as ``type_name``; activations stay near 1 through the layers."""
    rng = np.random.default_rng(seed)
    stored = {}
    for name, shape in expected_shapes(config).items():
        if len(shape) == 1:
            values = rng.uniform(0.5, 1.5, shape).astype(np.float32)
            stored[name] = StoredTensor(name, shape, BY_NAME["F32"], values.view(np.uint8))
        else:
            stored[name] = random_matrix(rng, name, shape, type_name)
    path = Path("memory")
    return MemoryCheckpoint(path, "gguf", (path,), config, {}, stored=stored)


def in_floats(checkpoint: Checkpoint) -> MemoryCheckpoint:
    """The same weights, all of them as F32."""
    stored = {}
    for tensor in checkpoint.tensors():
        values = tensor.float32().reshape(-1)
        stored[tensor.name] = StoredTensor(tensor.name, tensor.shape, BY_NAME["F32"], values.view(np.uint8))
    return MemoryCheckpoint(checkpoint.path, "gguf", checkpoint.files, checkpoint.config, {}, stored=stored)


def random_matrix(rng: np.random.Generator, name: str, shape: tuple[int, ...], type_name: str) -> StoredTensor:
    """Packed from floats where the type can be; else random blocks, with their 16-bit scales set to small numbers."""
    kind = BY_NAME[type_name]
    size = int(np.prod(shape))
    if kind.pack is not None:
        values = rng.standard_normal(size).astype(np.float32) / np.float32(np.sqrt(shape[-1]))
        return StoredTensor(name, shape, kind, kind.pack(values))
    blocks = rng.integers(0, 256, (size // kind.block_values, kind.block_bytes), dtype=np.uint8)
    for at in SCALES[type_name]:
        scale = (rng.uniform(0.5, 1, len(blocks)) * SCALES[type_name][at] / np.sqrt(shape[-1])).astype("<f2")
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return StoredTensor(name, shape, kind, blocks.reshape(-1))


SCALES = {
    "Q4_K": {0: 1 / 200, 2: 1 / 30},
    "Q5_K": {0: 1 / 400, 2: 1 / 30},
    "Q6_K": {208: 1 / 1000},
    "Q5_0": {0: 1 / 10},
    "Q5_1": {0: 1 / 10, 2: -1},
    "Q3_K": {108: 1 / 50},
    "Q2_K": {80: 1 / 8, 82: 1 / 8},
}
"""Type -> place of each 16-bit scale in a block, and a size that gives values near 1."""


class Reference:
    """One sequence at a time, from the beginning, with unpacked weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.weights = {tensor.name: tensor.float32() for tensor in checkpoint.tensors()}

    def logits(self, tokens: npt.NDArray[np.int32]) -> Floats:
        """(T, V) for tokens (T,)."""
        weights, config = self.weights, self.config
        x = weights["embedding.weight"][tokens]
        for i in range(config.n_layers):
            layer = f"layers.{i}."
            h = self._norm(x, layer + "attention_norm.weight")
            q, k, v = (h @ weights[f"{layer}attention.{name}.weight"].T for name in "qkv")
            x = x + self._attend(q, k, v) @ weights[layer + "attention.o.weight"].T
            h = self._norm(x, layer + "ffn_norm.weight")
            gate = h @ weights[layer + "feed_forward.gate.weight"].T
            up = h @ weights[layer + "feed_forward.up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[layer + "feed_forward.down.weight"].T
        output = weights["embedding.weight" if config.tie_embeddings else "output.weight"]
        logits: Floats = self._norm(x, "norm.weight") @ output.T
        return logits

    def _norm(self, x: Floats, name: str) -> Floats:
        scale = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self.config.norm_eps))
        return np.asarray(x * scale * self.weights[name], dtype=np.float32)

    def _attend(self, q: Floats, k: Floats, v: Floats) -> Floats:
        config, length = self.config, len(q)
        queries = self._rotate(q.reshape(length, config.n_heads, config.head_dim))
        keys = self._rotate(k.reshape(length, config.n_kv_heads, config.head_dim))
        values = v.reshape(length, config.n_kv_heads, config.head_dim)
        distance = np.arange(length)[:, None] - np.arange(length)
        hidden = (distance < 0) | (distance >= (config.sliding_window or length))
        out = np.empty_like(queries)
        for head in range(config.n_heads):
            kv = head // (config.n_heads // config.n_kv_heads)
            scores = queries[:, head] @ keys[:, kv].T / np.float32(np.sqrt(config.head_dim))
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = weights / weights.sum(axis=-1, keepdims=True) @ values[:, kv]
        return out.reshape(length, -1)

    def _rotate(self, x: Floats) -> Floats:
        angles = np.arange(len(x), dtype=np.float32)[:, None, None] * rotary_frequencies(self.config)
        first, second = x[..., 0::2], x[..., 1::2]
        turned = [first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)]
        return np.stack(turned, axis=-1).reshape(x.shape)


def divergence(reference: Floats, other: Floats) -> float:
    """Mean KL divergence over the rows of two (T, V) arrays of logits."""
    p, q = _log_softmax(reference), _log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    x = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def token_rows(lengths: list[int], vocabulary: int, seed: int = 1) -> Iterator[npt.NDArray[np.int32]]:
    """Random tokens, one array for each length."""
    rng = np.random.default_rng(seed)
    for length in lengths:
        yield rng.integers(0, vocabulary, length).astype(np.int32)
