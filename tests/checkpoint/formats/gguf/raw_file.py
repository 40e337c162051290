"""GGUF files built byte by byte, so that any number in them can be wrong. Does not use the code under test."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from empu.checkpoint.block_types import BlockType
from empu.checkpoint.tensor_names import expected_tensors
from empu.config import ModelConfig

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}

SMALLEST = ModelConfig(
    n_layers=1,
    dim=4,
    n_heads=2,
    n_kv_heads=1,
    ffn_dim=6,
    vocab_size=5,
    head_dim=2,
    context_length=16,
    rope_theta=10_000.0,
)


def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, content: Any) -> bytes:
    """Encode a value with its type. The content of an array is (element type, elements), also when nested."""
    return struct.pack("<I", kind) + _content(kind, content)


def _content(kind: int, content: Any) -> bytes:
    if isinstance(content, bytes):  # encoded already
        return content
    if kind == STRING:
        return string(content)
    if kind == ARRAY:
        inner, elements = content
        return struct.pack("<IQ", inner, len(elements)) + b"".join(_content(inner, item) for item in elements)
    return struct.pack(f"<{_CODES[kind]}", content)


def info(name: str | bytes, dims: list[int], kind: int, offset: int, n_dims: int | None = None) -> bytes:
    """Encode one entry of the tensor table; ``dims`` with the fastest-varying one first."""
    stated_n_dims = len(dims) if n_dims is None else n_dims
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", stated_n_dims, *dims, kind, offset)


def key_values(config: ModelConfig = SMALLEST) -> dict[str, bytes]:
    """Return the keys of a valid file, each with its encoded value."""
    return {
        "general.architecture": value(STRING, "llama"),
        "general.name": value(STRING, "Tiny"),
        "llama.block_count": value(U32, config.n_layers),
        "llama.context_length": value(U32, config.context_length),
        "llama.embedding_length": value(U32, config.dim),
        "llama.feed_forward_length": value(U32, config.ffn_dim),
        "llama.attention.head_count": value(U32, config.n_heads),
        "llama.attention.head_count_kv": value(U32, config.n_kv_heads),
        "llama.attention.layer_norm_rms_epsilon": value(F32, config.norm_eps),
        "llama.attention.key_length": value(U32, config.head_dim),
        "llama.attention.value_length": value(U32, config.head_dim),
        "llama.rope.freq_base": value(F32, config.rope_theta),
        "llama.rope.dimension_count": value(U32, config.head_dim),
        "tokenizer.ggml.tokens": value(ARRAY, (STRING, ["<unk>", "a", "ab", "Ġ", "名"])),
        "tokenizer.ggml.scores": value(ARRAY, (F32, [0.0, -1.0, -2.0, -3.0, -4.0])),
    }


@dataclass
class RawGguf:
    """A file in parts. Each can be replaced before :meth:`bytes` joins them."""

    magic: bytes = b"GGUF"
    version: int = 3
    n_tensors: int | None = None
    n_keys: int | None = None
    keys: list[tuple[str | bytes, bytes]] = field(default_factory=lambda: list(key_values().items()))
    infos: list[bytes] = field(default_factory=list)
    data: bytes = b""
    alignment: int = 32

    @classmethod
    def smallest(cls, config: ModelConfig = SMALLEST) -> RawGguf:
        """Return a small valid file: float32 tensors of :data:`SMALLEST`."""
        raw = cls(keys=list(key_values(config).items()))
        rng = np.random.default_rng(0)
        for tensor in expected_tensors(config, "gguf"):
            raw.add(tensor.stored_name, rng.standard_normal(tensor.shape).astype("<f4"))
        return raw

    def add(self, name: str, array: npt.NDArray[np.float32]) -> None:
        self.infos.append(info(name, list(reversed(array.shape)), 0, len(self.data)))
        self.data += pad(array.tobytes(), self.alignment)

    def set(self, key: str, content: bytes) -> RawGguf:
        """Replace the value of ``key``, or append it."""
        self.keys = [(k, v) for k, v in self.keys if k != key] + [(key, content)]
        return self

    def without(self, key: str) -> RawGguf:
        self.keys = [(k, v) for k, v in self.keys if k != key]
        return self

    def header(self) -> bytes:
        counts = (
            len(self.infos) if self.n_tensors is None else self.n_tensors,
            len(self.keys) if self.n_keys is None else self.n_keys,
        )
        parts = [self.magic, struct.pack("<IQQ", self.version, *counts)]
        parts += [string(key) + content for key, content in self.keys]
        return b"".join([*parts, *self.infos])

    def bytes(self) -> bytes:
        return pad(self.header(), self.alignment) + self.data


def pad(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)


def write_with_gguf_package(
    path: Path,
    config: ModelConfig,
    tensors: dict[str, npt.NDArray[np.float32]],
    type_for: Callable[[str], BlockType],
    add_keys: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    alignment: int | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Write a file with the gguf package. Return the stored bytes or floats of each tensor by its GGUF name."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.dim)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if config.sliding_window is not None:
        writer.add_sliding_window(config.sliding_window)
    add_keys(writer)
    stored: dict[str, npt.NDArray[Any]] = {}
    for name, array in tensors.items():
        kind = gguf.GGMLQuantizationType[type_for(name).name]
        with np.errstate(all="ignore"):
            stored[name] = gguf.quants.quantize(array, kind)
        writer.add_tensor(name, stored[name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored
