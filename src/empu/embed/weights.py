"""Weights of a BERT encoder in a folder: ``model.safetensors`` (Hugging Face names) or ``model.gguf`` (GGUF names)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from empu.checkpoint.block_types import BlockType
from empu.checkpoint.formats.gguf.container import GgufFile
from empu.checkpoint.formats.safetensors import read_safetensors
from empu.errors import CheckpointError
from empu.system.files import ByteArray

FloatArray = npt.NDArray[np.float32]

WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"

_GGUF_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
"""Hugging Face module -> GGUF name of the architecture ``bert``; ``encoder.layer.N.`` becomes ``blk.N.``."""


class EncoderWeights(Protocol):
    """Tensors by their Hugging Face names."""

    path: Path

    def stored(self, name: str) -> tuple[BlockType, tuple[int, ...], ByteArray]:
        """Type, shape and bytes of a tensor. Raises :class:`CheckpointError` if it is missing."""


def open_weights(folder: Path) -> EncoderWeights:
    """Open the weights in a folder. Raises :class:`CheckpointError`."""
    if (folder / "model.safetensors").is_file():
        return SafetensorsWeights(folder / "model.safetensors")
    if (folder / "model.gguf").is_file():
        return GgufWeights(folder / "model.gguf")
    raise CheckpointError(f"{folder} has no model.safetensors and no model.gguf; this is not an encoder's folder.")


def weights_path(folder: Path) -> Path:
    """The file that holds an encoder's weights."""
    path = folder / "model.safetensors"
    return path if path.is_file() else folder / "model.gguf"


def tensor(weights: EncoderWeights, name: str) -> FloatArray:
    """A tensor in float32."""
    kind, shape, data = weights.stored(name)
    return kind.unpack(data).reshape(shape)


def rows(weights: EncoderWeights, name: str, ids: Sequence[int] | npt.NDArray[np.int64]) -> FloatArray:
    """Rows of a matrix in float32; only these are unpacked."""
    kind, shape, data = weights.stored(name)
    row_bytes = shape[1] // kind.block_values * kind.block_bytes
    picked = np.ascontiguousarray(data.reshape(shape[0], row_bytes)[np.asarray(ids)])
    return kind.unpack(picked.reshape(-1)).reshape(len(ids), shape[1])


class SafetensorsWeights:
    """Weights as Hugging Face and sentence-transformers write them; names may begin with ``bert.``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = read_safetensors(path)
        self._stored_names = {name.removeprefix("bert."): name for name in self._file.entries}

    def stored(self, name: str) -> tuple[BlockType, tuple[int, ...], ByteArray]:
        if name not in self._stored_names:
            raise CheckpointError(f"{self.path}: the tensor {name} is missing; this is not a BERT encoder.")
        stored_name = self._stored_names[name]
        return (
            self._file.type_of(stored_name),
            self._file.entries[stored_name].shape,
            self._file.bytes_of(stored_name),
        )


class GgufWeights:
    """Weights in a GGUF file of the architecture ``bert``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = GgufFile.read(path)

    def stored(self, name: str) -> tuple[BlockType, tuple[int, ...], ByteArray]:
        stored_name = gguf_name(name)
        if stored_name not in self._file.tensors:
            raise CheckpointError(f"{self.path}: the tensor {stored_name} is missing; this is not a BERT encoder.")
        entry = self._file.tensors[stored_name]
        return entry.type, entry.shape, self._file.data[entry.start : entry.end]


def gguf_name(name: str) -> str:
    """GGUF name of a Hugging Face tensor name."""
    prefix = ""
    if name.startswith("encoder.layer."):
        _, _, number, rest = name.split(".", 3)
        prefix, name = f"blk.{number}.", rest
    module, _, kind = name.rpartition(".")
    return f"{prefix}{_GGUF_NAMES.get(module, module)}.{kind}"
