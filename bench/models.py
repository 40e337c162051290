"""Models for benchmarks: random weights in any shape, and copies of a file in another quantisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from empu.checkpoint import open_checkpoint
from empu.checkpoint.base import StoredTensor
from empu.checkpoint.block_types import BLOCK_TYPES_BY_NAME, BlockType
from empu.checkpoint.formats.gguf.writer import default_types, write_gguf
from empu.checkpoint.tensor_names import Shape, expected_shapes
from empu.config import preset


def write_random(path: Path, preset_name: str, type_name: str) -> None:
    """Write a GGUF file of random weights, without a tokenizer. All layers share the matrices of one layer."""
    config, block_type, random = preset(preset_name), BLOCK_TYPES_BY_NAME[type_name], np.random.default_rng(0)
    shapes = expected_shapes(config)
    templates: dict[tuple[int, ...], StoredTensor] = {}

    def tensor(name: str) -> StoredTensor:
        shape = shapes[name]
        if shape not in templates:
            values = random.standard_normal(int(np.prod(shape)), dtype=np.float32) * np.float32(0.02)
            matrix_type = block_type if len(shape) == 2 else BLOCK_TYPES_BY_NAME["F32"]
            assert matrix_type.pack is not None
            templates[shape] = StoredTensor(name, shape, matrix_type, matrix_type.pack(values))
        return StoredTensor(name, shape, templates[shape].type, templates[shape].data)

    write_gguf(path, config, tensor, type_for=default_types(block_type), metadata={"tokenizer.ggml.model": "no_vocab"})


def requantise(source: Path, path: Path, type_name: str) -> None:
    """Write a copy with the 4-bit matrices in another 4-bit type, or with all matrices in any other type."""
    new_type = BLOCK_TYPES_BY_NAME[type_name]
    with open_checkpoint(source) as checkpoint:

        def choose_type(name: str, shape: Shape) -> BlockType:
            stored = checkpoint.tensor(name).type
            if len(shape) == 1 or (type_name.startswith("Q4") and not stored.name.startswith("Q4")):
                return stored
            return new_type

        write_gguf(path, checkpoint.config, checkpoint.tensor, type_for=choose_type, metadata=checkpoint.metadata)
