"""Checkpoints in memory with random weights, their shapes, and token ids to run them with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from empu.checkpoint.base import Checkpoint, StoredTensor
from empu.checkpoint.block_types import BLOCK_TYPES_BY_NAME
from empu.checkpoint.tensor_names import expected_shapes
from empu.config import ModelConfig, RopeScaling, preset
from empu.engine.backends.protocol import Backend, Chunk, LogitsNeeded

FloatArray = npt.NDArray[np.float32]
TokenArray = npt.NDArray[np.int32]

TINY = preset("tiny")
GROUPED = ModelConfig(
    n_layers=2, dim=256, n_heads=8, n_kv_heads=2, head_dim=64, ffn_dim=512, vocab_size=200, tie_embeddings=True
)
SMALL = ModelConfig(
    n_layers=2, dim=128, n_heads=4, n_kv_heads=2, head_dim=32, ffn_dim=256, vocab_size=200, tie_embeddings=True
)
SHAPES = {
    "tiny": TINY,
    "tied": TINY.replace(tie_embeddings=True),
    "odd sizes": ModelConfig(
        n_layers=2, dim=20, n_heads=3, n_kv_heads=1, head_dim=10, ffn_dim=50, vocab_size=37, context_length=256
    ),
    "one head": TINY.replace(n_heads=1, n_kv_heads=1, head_dim=128),
    "sliding window": TINY.replace(sliding_window=40),
    "scaled rope": TINY.replace(rope_scaling=RopeScaling(original_context=64)),
}


@dataclass
class MemoryCheckpoint(Checkpoint):
    """A checkpoint of tensors in memory, by our names."""

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
            stored[name] = StoredTensor(name, shape, BLOCK_TYPES_BY_NAME["F32"], values.view(np.uint8))
        else:
            stored[name] = random_matrix(rng, name, shape, type_name)
    path = Path("memory")
    return MemoryCheckpoint(path, "gguf", (path,), config, {}, stored=stored)


def as_float32(checkpoint: Checkpoint) -> MemoryCheckpoint:
    """The same weights, all of them as F32."""
    stored = {}
    for tensor in checkpoint.tensors():
        values = tensor.float32().reshape(-1)
        stored[tensor.name] = StoredTensor(tensor.name, tensor.shape, BLOCK_TYPES_BY_NAME["F32"], values.view(np.uint8))
    return MemoryCheckpoint(checkpoint.path, "gguf", checkpoint.files, checkpoint.config, {}, stored=stored)


def random_matrix(rng: np.random.Generator, name: str, shape: tuple[int, ...], type_name: str) -> StoredTensor:
    """Pack random floats where the type can be packed; otherwise return random blocks with small scales."""
    block_type = BLOCK_TYPES_BY_NAME[type_name]
    size = int(np.prod(shape))
    if block_type.pack is not None:
        values = rng.standard_normal(size).astype(np.float32) / np.float32(np.sqrt(shape[-1]))
        return StoredTensor(name, shape, block_type, block_type.pack(values))
    blocks = rng.integers(0, 256, (size // block_type.block_values, block_type.block_bytes), dtype=np.uint8)
    for offset, magnitude in SCALES[type_name].items():
        scale = (rng.uniform(0.5, 1, len(blocks)) * magnitude / np.sqrt(shape[-1])).astype("<f2")
        blocks[:, offset : offset + 2] = scale.view(np.uint8).reshape(-1, 2)
    return StoredTensor(name, shape, block_type, blocks.reshape(-1))


SCALES = {
    "Q4_K": {0: 1 / 200, 2: 1 / 30},
    "Q5_K": {0: 1 / 400, 2: 1 / 30},
    "Q6_K": {208: 1 / 1000},
    "Q5_0": {0: 1 / 10},
    "Q5_1": {0: 1 / 10, 2: -1},
    "Q3_K": {108: 1 / 50},
    "Q2_K": {80: 1 / 8, 82: 1 / 8},
}
"""Type -> offset of each 16-bit scale in a block -> a magnitude that gives values near 1."""


def random_prompts(lengths: list[int], vocab_size: int, seed: int = 1) -> Iterator[TokenArray]:
    """Yield random token ids, one array for each length."""
    rng = np.random.default_rng(seed)
    for length in lengths:
        yield rng.integers(0, vocab_size, length).astype(np.int32)


def all_logits(backend: Backend, tokens: TokenArray, chunk_size: int = 10_000) -> FloatArray:
    """(T, V) logits of one sequence, computed in chunks."""
    sequence = backend.allocate(len(tokens))
    rows = []
    for start in range(0, len(tokens), chunk_size):
        rows += backend.forward([Chunk(sequence, tokens[start : start + chunk_size], LogitsNeeded.ALL)])
    backend.release(sequence)
    return np.concatenate(rows)
