"""The value types of checkpoints: plain floats and the quantised block formats, each with a short numpy unpack.

The unpack functions are the oracle for the kernels: clear first, fast enough second. Layouts after ``ggml-common.h`` in
the ggml repository. Where a block holds several fields they are taken apart in the order in which they lie; every
product and sum is float32, in the order of ggml's own reference code, so results are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_AT_ONCE = 1 << 12
"""Blocks taken together: few enough that what is computed on the way stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class BlockType:
    """A storage type: ``block_values`` consecutive values of one row occupy ``block_bytes`` bytes."""

    name: str
    block_values: int
    block_bytes: int
    unpack: Callable[[Bytes], Floats]
    """Flat bytes (a whole number of blocks) -> flat float32 values."""
    pack: Callable[[Floats], Bytes] | None = None
    """Flat float32 values (a whole number of blocks) -> flat bytes; ``None`` for types that are only read."""


def _unpack_floats(data: Bytes, dtype: str) -> Floats:
    return data.view(dtype).astype(np.float32)


def _pack_floats(values: Floats, dtype: str) -> Bytes:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=dtype).view(np.uint8)


def _unpack_bf16(data: Bytes) -> Floats:
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _pack_bf16(values: Floats) -> Bytes:
    """To nearest, ties to even; a NaN becomes quiet, as rounding could carry it over into infinity."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2").view(np.uint8)


def _unpack_blocks(data: Bytes, size: tuple[int, int], unpack: Callable[[Bytes], Floats]) -> Floats:
    """``unpack``: (N, bytes) -> (N, values), applied to some blocks at a time."""
    values, bytes_ = size
    blocks = data.reshape(-1, bytes_)
    result = np.empty((len(blocks), values), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged scale may be infinite
        for start in range(0, len(blocks), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            result[some] = unpack(blocks[some])
    return result.reshape(-1)


def _pack_blocks(values: Floats, size: tuple[int, int], pack: Callable[[Floats], Bytes]) -> Bytes:
    """``pack``: (N, values) -> (N, bytes), applied to some blocks at a time."""
    count, bytes_ = size
    blocks = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, count)
    result = np.empty((len(blocks), bytes_), np.uint8)
    with np.errstate(all="ignore"):  # 1 / 0 is replaced; the largest values may go beyond a float16 scale
        for start in range(0, len(blocks), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            result[some] = pack(blocks[some])
    return result.reshape(-1)


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte ``at`` of each block, as (N, 1)."""
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)


def _fields(packed: Bytes, bits: int, run: int) -> Bytes:
    """(N, B) bytes -> (N, B * 8 / bits) numbers: of each ``run`` bytes the lowest fields first, then the next."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, 1)
    mask = np.uint8((1 << bits) - 1)
    return ((packed.reshape(len(packed), -1, 1, run) >> shifts) & mask).reshape(len(packed), -1)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    """(N, 32): 16 or 0 for each value, from the four bytes of high bits at ``at``."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << np.uint8(4)


def _scaled(scales: Floats, numbers: npt.NDArray[np.generic], minima: Floats | None = None) -> Floats:
    """(N, G) scales * (N, V) numbers [- (N, G) minima]; each scale holds for V / G neighbours."""
    groups = numbers.astype(np.float32).reshape(*scales.shape, -1)
    values = scales[:, :, None] * groups
    if minima is not None:
        values -= minima[:, :, None]
    return values.reshape(len(scales), -1)


def _unpack_q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_fields(blocks[:, 2:], 4, 16).astype(np.float32) - 8)


def _unpack_q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _fields(blocks[:, 4:], 4, 16) + _half(blocks, 2)


def _unpack_q5_0(blocks: Bytes) -> Floats:
    numbers = _fields(blocks[:, 6:], 4, 16) | _fifth_bits(blocks, 2)
    return _half(blocks, 0) * (numbers.astype(np.float32) - 16)


def _unpack_q5_1(blocks: Bytes) -> Floats:
    numbers = _fields(blocks[:, 8:], 4, 16) | _fifth_bits(blocks, 4)
    return _half(blocks, 0) * numbers + _half(blocks, 2)


def _unpack_q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8)


def _unpack_q2_k(blocks: Bytes) -> Floats:
    scales = _fields(blocks[:, :16], 4, 1)  # (N, 32): scale and minimum of each group in turn
    numbers = _fields(blocks[:, 16:80], 2, 32)
    return _scaled(_half(blocks, 80) * scales[:, 0::2], numbers, _half(blocks, 82) * scales[:, 1::2])


def _unpack_q3_k(blocks: Bytes) -> Floats:
    high = _fields(blocks[:, :32], 1, 32).astype(np.int8)  # 0 says: four less
    numbers = _fields(blocks[:, 32:96], 2, 32).astype(np.int8) - 4 * (1 - high)
    scales = _fields(blocks[:, 96:104], 4, 8) | _fields(blocks[:, 104:108], 2, 4) << 4
    return _scaled(_half(blocks, 108) * (scales.astype(np.float32) - 32), numbers)


def _six_bit_scales(packed: Bytes) -> tuple[Bytes, Bytes]:
    """(N, 12) bytes -> scales and minima, (N, 8) each: four whole ones of either, and four from parts."""
    scale, minimum, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    return (
        np.concatenate([scale & 63, (low & 15) | (scale >> 6 << 4)], axis=1),
        np.concatenate([minimum & 63, (low >> 4) | (minimum >> 6 << 4)], axis=1),
    )


def _unpack_q4_k(blocks: Bytes) -> Floats:
    scales, minima = _six_bit_scales(blocks[:, 4:16])
    return _scaled(_half(blocks, 0) * scales, _fields(blocks[:, 16:], 4, 32), _half(blocks, 2) * minima)


def _unpack_q5_k(blocks: Bytes) -> Floats:
    scales, minima = _six_bit_scales(blocks[:, 4:16])
    numbers = _fields(blocks[:, 48:], 4, 32) | _fields(blocks[:, 16:48], 1, 32) << 4
    return _scaled(_half(blocks, 0) * scales, numbers, _half(blocks, 2) * minima)


def _unpack_q6_k(blocks: Bytes) -> Floats:
    numbers = _fields(blocks[:, :128], 4, 64) | _fields(blocks[:, 128:192], 2, 32) << 4
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return _scaled(scales, numbers.astype(np.float32) - 32)


def _inverse(scale: Floats) -> Floats:
    """Zero where there is none: such a scale is zero in float16 too."""
    return np.where(np.abs(scale) < np.finfo(np.float32).tiny, np.float32(0), 1 / scale)


def _halves(numbers: Floats) -> Bytes:
    """(N, 32) numbers -> (N, 16) bytes, cut off to 0 … 15; the first sixteen lie in the low halves."""
    whole = np.clip(np.trunc(numbers), 0, 15).astype(np.uint8)
    return whole[:, :16] | whole[:, 16:] << np.uint8(4)


def _stored(scale: Floats) -> Bytes:
    return scale.astype("<f2").view(np.uint8)


def _pack_q4_0(values: Floats) -> Bytes:
    """The scale maps the value farthest from zero, with its sign, to -8."""
    farthest: Floats = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    scale: Floats = farthest / np.float32(-8)
    return np.concatenate([_stored(scale), _halves(values * _inverse(scale) + np.float32(8.5))], axis=1)


def _pack_q4_1(values: Floats) -> Bytes:
    low: Floats = values.min(axis=1, keepdims=True)
    scale: Floats = (values.max(axis=1, keepdims=True) - low) / np.float32(15)
    numbers = _halves((values - low) * _inverse(scale) + np.float32(0.5))
    return np.concatenate([_stored(scale), _stored(low), numbers], axis=1)


def _pack_q8_0(values: Floats) -> Bytes:
    """Ties go away from zero."""
    largest: Floats = np.abs(values).max(axis=1, keepdims=True)
    scale: Floats = largest / np.float32(127)
    numbers = values * _inverse(scale)
    size = np.abs(numbers)
    whole = np.floor(size) + (size - np.floor(size) >= 0.5)
    return np.concatenate([_stored(scale), (np.sign(numbers) * whole).astype(np.int8).view(np.uint8)], axis=1)


def _block_type(
    name: str,
    values: int,
    bytes_: int,
    unpack: Callable[[Bytes], Floats],
    pack: Callable[[Floats], Bytes] | None = None,
) -> BlockType:
    size = (values, bytes_)
    return BlockType(
        name,
        values,
        bytes_,
        partial(_unpack_blocks, size=size, unpack=unpack),
        None if pack is None else partial(_pack_blocks, size=size, pack=pack),
    )


F32 = BlockType("F32", 1, 4, partial(_unpack_floats, dtype="<f4"), partial(_pack_floats, dtype="<f4"))
F16 = BlockType("F16", 1, 2, partial(_unpack_floats, dtype="<f2"), partial(_pack_floats, dtype="<f2"))
BF16 = BlockType("BF16", 1, 2, _unpack_bf16, _pack_bf16)
Q4_0 = _block_type("Q4_0", 32, 18, _unpack_q4_0, _pack_q4_0)
Q4_1 = _block_type("Q4_1", 32, 20, _unpack_q4_1, _pack_q4_1)
Q5_0 = _block_type("Q5_0", 32, 22, _unpack_q5_0)
Q5_1 = _block_type("Q5_1", 32, 24, _unpack_q5_1)
Q8_0 = _block_type("Q8_0", 32, 34, _unpack_q8_0, _pack_q8_0)
Q2_K = _block_type("Q2_K", 256, 84, _unpack_q2_k)
Q3_K = _block_type("Q3_K", 256, 110, _unpack_q3_k)
Q4_K = _block_type("Q4_K", 256, 144, _unpack_q4_k)
Q5_K = _block_type("Q5_K", 256, 176, _unpack_q5_k)
Q6_K = _block_type("Q6_K", 256, 210, _unpack_q6_k)

BY_GGML_ID: dict[int, BlockType] = {
    0: F32,
    1: F16,
    2: Q4_0,
    3: Q4_1,
    6: Q5_0,
    7: Q5_1,
    8: Q8_0,
    10: Q2_K,
    11: Q3_K,
    12: Q4_K,
    13: Q5_K,
    14: Q6_K,
    30: BF16,
}
"""Number in a GGUF file -> type."""

BY_NAME: dict[str, BlockType] = {type_.name: type_ for type_ in BY_GGML_ID.values()}

GGML_NAMES: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    9: "Q8_1",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    34: "TQ1_0",
    35: "TQ2_0",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}
"""Types that exist, or once did, and are not read; for messages."""
