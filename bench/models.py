"""Models to measure with: of random weights in any shape, and copies of a file in another type."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from empu.checkpoint import open_checkpoint
from empu.checkpoint.base import StoredTensor
from empu.checkpoint.blocks import BY_NAME, BlockType
from empu.checkpoint.formats.gguf.writer import usual_types, write_gguf
from empu.checkpoint.tensor_names import Shape, expected_shapes
from empu.config import preset


def write_random(path: Path, preset_name: str, type_name: str) -> None:
    """The matrices of one layer serve all layers: what they hold does not matter here. Without a tokenizer."""
    config, kind, random = preset(preset_name), BY_NAME[type_name], np.random.default_rng(0)
    shapes = expected_shapes(config)
    made: dict[tuple[int, ...], StoredTensor] = {}

    def tensor(name: str) -> StoredTensor:
        shape = shapes[name]
        if shape not in made:
            values = random.standard_normal(int(np.prod(shape)), dtype=np.float32) * np.float32(0.02)
            type_ = kind if len(shape) == 2 else BY_NAME["F32"]
            assert type_.pack is not None
            made[shape] = StoredTensor(name, shape, type_, type_.pack(values))
        return StoredTensor(name, shape, made[shape].type, made[shape].data)

    write_gguf(path, config, tensor, type_for=usual_types(kind), metadata={"tokenizer.ggml.model": "no_vocab"})


def copy_as(source: Path, path: Path, type_name: str) -> None:
    """The same model with its 4-bit matrices in another 4-bit type, or with all matrices in another one."""
    type_ = BY_NAME[type_name]
    with open_checkpoint(source) as checkpoint:

        def choose(name: str, shape: Shape) -> BlockType:
            own = checkpoint.tensor(name).type
            if len(shape) == 1 or (type_name.startswith("Q4") and not own.name.startswith("Q4")):
                return own
            return type_

        write_gguf(path, checkpoint.config, checkpoint.tensor, type_for=choose, metadata=checkpoint.metadata)
