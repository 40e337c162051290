"""Block types: the value types of checkpoints, plain floats and quantised blocks, each with a short numpy unpack.

The unpack functions are the oracle for the kernels: clear first, fast enough second. Layouts follow ``ggml-common.h``.
Every product and sum is float32, in the order of ggml's reference code, so results are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from empu.system.files import ByteArray

FloatArray = npt.NDArray[np.float32]

_BLOCKS_PER_STEP = 1 << 12
"""Blocks per step: few enough that intermediate arrays stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class BlockType:
    """A storage type. ``block_values`` consecutive values of one row occupy ``block_bytes`` bytes."""

    name: str
    block_values: int
    block_bytes: int
    unpack: Callable[[ByteArray], FloatArray]
    """Flat bytes (a whole number of blocks) -> flat float32 values."""
    pack: Callable[[FloatArray], ByteArray] | None = None
    """Flat float32 values (a whole number of blocks) -> flat bytes; ``None`` for types that Empu cannot write."""


def _unpack_floats(data: ByteArray, dtype: str) -> FloatArray:
    return data.view(dtype).astype(np.float32)


def _pack_floats(values: FloatArray, dtype: str) -> ByteArray:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=dtype).view(np.uint8)


def _unpack_bf16(data: ByteArray) -> FloatArray:
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _pack_bf16(values: FloatArray) -> ByteArray:
    """Round to nearest, ties to even. A NaN becomes quiet, since rounding could turn it into infinity."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2").view(np.uint8)


def _unpack_blocks(data: ByteArray, size: tuple[int, int], unpack: Callable[[ByteArray], FloatArray]) -> FloatArray:
    """Apply ``unpack``, (N, bytes) -> (N, values), to some blocks at a time."""
    values, bytes_ = size
    blocks = data.reshape(-1, bytes_)
    result = np.empty((len(blocks), values), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged scale may be infinite
        for start in range(0, len(blocks), _BLOCKS_PER_STEP):
            part = slice(start, start + _BLOCKS_PER_STEP)
            result[part] = unpack(blocks[part])
    return result.reshape(-1)


def _pack_blocks(values: FloatArray, size: tuple[int, int], pack: Callable[[FloatArray], ByteArray]) -> ByteArray:
    """Apply ``pack``, (N, values) -> (N, bytes), to some blocks at a time."""
    values_per_block, bytes_ = size
    blocks = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, values_per_block)
    result = np.empty((len(blocks), bytes_), np.uint8)
    with np.errstate(all="ignore"):  # 1 / 0 is replaced; a scale may overflow float16
        for start in range(0, len(blocks), _BLOCKS_PER_STEP):
            part = slice(start, start + _BLOCKS_PER_STEP)
            result[part] = pack(blocks[part])
    return result.reshape(-1)


def _float16(blocks: ByteArray, offset: int) -> FloatArray:
    """Return the float16 at byte ``offset`` of each block, as float32 (N, 1)."""
    return blocks[:, offset : offset + 2].copy().view("<f2").astype(np.float32)


def _bit_fields(packed: ByteArray, bits: int, group: int) -> ByteArray:
    """(N, B) bytes -> (N, B * 8 / bits) integers: for each ``group`` of bytes the lowest bits first, then the next."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, 1)
    mask = np.uint8((1 << bits) - 1)
    return ((packed.reshape(len(packed), -1, 1, group) >> shifts) & mask).reshape(len(packed), -1)


def _fifth_bits(blocks: ByteArray, offset: int) -> ByteArray:
    """Return 16 or 0 for each value, (N, 32), from the four bytes of high bits at ``offset``."""
    return np.unpackbits(blocks[:, offset : offset + 4], axis=1, bitorder="little") << np.uint8(4)


def _scale_groups(
    scales: FloatArray, quantised: npt.NDArray[np.generic], minima: FloatArray | None = None
) -> FloatArray:
    """(N, G) scales * (N, V) quantised values [- (N, G) minima]. Each scale applies to V / G neighbours."""
    groups = quantised.astype(np.float32).reshape(*scales.shape, -1)
    values = scales[:, :, None] * groups
    if minima is not None:
        values -= minima[:, :, None]
    return values.reshape(len(scales), -1)


def _unpack_q4_0(blocks: ByteArray) -> FloatArray:
    return _float16(blocks, 0) * (_bit_fields(blocks[:, 2:], 4, 16).astype(np.float32) - 8)


def _unpack_q4_1(blocks: ByteArray) -> FloatArray:
    return _float16(blocks, 0) * _bit_fields(blocks[:, 4:], 4, 16) + _float16(blocks, 2)


def _unpack_q5_0(blocks: ByteArray) -> FloatArray:
    quantised = _bit_fields(blocks[:, 6:], 4, 16) | _fifth_bits(blocks, 2)
    return _float16(blocks, 0) * (quantised.astype(np.float32) - 16)


def _unpack_q5_1(blocks: ByteArray) -> FloatArray:
    quantised = _bit_fields(blocks[:, 8:], 4, 16) | _fifth_bits(blocks, 4)
    return _float16(blocks, 0) * quantised + _float16(blocks, 2)


def _unpack_q8_0(blocks: ByteArray) -> FloatArray:
    return _float16(blocks, 0) * blocks[:, 2:].view(np.int8)


def _unpack_q2_k(blocks: ByteArray) -> FloatArray:
    scales = _bit_fields(blocks[:, :16], 4, 1)  # (N, 32): scale and minimum of each group, alternating
    quantised = _bit_fields(blocks[:, 16:80], 2, 32)
    return _scale_groups(_float16(blocks, 80) * scales[:, 0::2], quantised, _float16(blocks, 82) * scales[:, 1::2])


def _unpack_q3_k(blocks: ByteArray) -> FloatArray:
    high = _bit_fields(blocks[:, :32], 1, 32).astype(np.int8)  # 0 means: subtract four
    quantised = _bit_fields(blocks[:, 32:96], 2, 32).astype(np.int8) - 4 * (1 - high)
    scales = _bit_fields(blocks[:, 96:104], 4, 8) | _bit_fields(blocks[:, 104:108], 2, 4) << 4
    return _scale_groups(_float16(blocks, 108) * (scales.astype(np.float32) - 32), quantised)


def _six_bit_scales(packed: ByteArray) -> tuple[ByteArray, ByteArray]:
    """(N, 12) bytes -> scales and minima, (N, 8) each. The last four of each are split over two bytes."""
    scale, minimum, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    return (
        np.concatenate([scale & 63, (low & 15) | (scale >> 6 << 4)], axis=1),
        np.concatenate([minimum & 63, (low >> 4) | (minimum >> 6 << 4)], axis=1),
    )


def _unpack_q4_k(blocks: ByteArray) -> FloatArray:
    scales, minima = _six_bit_scales(blocks[:, 4:16])
    return _scale_groups(_float16(blocks, 0) * scales, _bit_fields(blocks[:, 16:], 4, 32), _float16(blocks, 2) * minima)


def _unpack_q5_k(blocks: ByteArray) -> FloatArray:
    scales, minima = _six_bit_scales(blocks[:, 4:16])
    quantised = _bit_fields(blocks[:, 48:], 4, 32) | _bit_fields(blocks[:, 16:48], 1, 32) << 4
    return _scale_groups(_float16(blocks, 0) * scales, quantised, _float16(blocks, 2) * minima)


def _unpack_q6_k(blocks: ByteArray) -> FloatArray:
    quantised = _bit_fields(blocks[:, :128], 4, 64) | _bit_fields(blocks[:, 128:192], 2, 32) << 4
    scales = _float16(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return _scale_groups(scales, quantised.astype(np.float32) - 32)


def _inverse(scale: FloatArray) -> FloatArray:
    """Return 1 / scale, and zero for scales so small that they are zero in float16."""
    return np.where(np.abs(scale) < np.finfo(np.float32).tiny, np.float32(0), 1 / scale)


def _pack_nibbles(quantised: FloatArray) -> ByteArray:
    """(N, 32) values, truncated to 0 … 15, -> (N, 16) bytes. The first sixteen are in the low nibbles."""
    whole = np.clip(np.trunc(quantised), 0, 15).astype(np.uint8)
    return whole[:, :16] | whole[:, 16:] << np.uint8(4)


def _to_float16_bytes(scale: FloatArray) -> ByteArray:
    return scale.astype("<f2").view(np.uint8)


def _pack_q4_0(values: FloatArray) -> ByteArray:
    """The scale maps the value of largest magnitude to -8."""
    extreme: FloatArray = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    scale: FloatArray = extreme / np.float32(-8)
    return np.concatenate([_to_float16_bytes(scale), _pack_nibbles(values * _inverse(scale) + np.float32(8.5))], axis=1)


def _pack_q4_1(values: FloatArray) -> ByteArray:
    low: FloatArray = values.min(axis=1, keepdims=True)
    scale: FloatArray = (values.max(axis=1, keepdims=True) - low) / np.float32(15)
    quantised = _pack_nibbles((values - low) * _inverse(scale) + np.float32(0.5))
    return np.concatenate([_to_float16_bytes(scale), _to_float16_bytes(low), quantised], axis=1)


def _pack_q8_0(values: FloatArray) -> ByteArray:
    """Round half away from zero."""
    largest: FloatArray = np.abs(values).max(axis=1, keepdims=True)
    scale: FloatArray = largest / np.float32(127)
    quantised = values * _inverse(scale)
    magnitude = np.abs(quantised)
    rounded = np.floor(magnitude) + (magnitude - np.floor(magnitude) >= 0.5)
    return np.concatenate(
        [_to_float16_bytes(scale), (np.sign(quantised) * rounded).astype(np.int8).view(np.uint8)], axis=1
    )


def _block_type(
    name: str,
    values: int,
    bytes_: int,
    unpack: Callable[[ByteArray], FloatArray],
    pack: Callable[[FloatArray], ByteArray] | None = None,
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

BLOCK_TYPES_BY_GGML_ID: dict[int, BlockType] = {
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
"""Type number in a GGUF file -> block type."""

BLOCK_TYPES_BY_NAME: dict[str, BlockType] = {type_.name: type_ for type_ in BLOCK_TYPES_BY_GGML_ID.values()}

UNREAD_GGML_TYPES: dict[int, str] = {
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
"""Types that exist, or once did, but that Empu does not read; for error messages."""
