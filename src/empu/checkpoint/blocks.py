"""The value types of checkpoints: plain floats and the quantised block formats, each with a short numpy unpack.

The unpack functions are the oracle for the kernels: clear first, fast enough second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BlockType:
    """A storage type: ``block_values`` consecutive values of one row occupy ``block_bytes`` bytes."""

    name: str
    block_values: int
    block_bytes: int
    unpack: Callable[[Bytes], Floats]
    """Flat bytes (a whole number of blocks) -> flat float32 values."""


def _f32(data: Bytes) -> Floats:
    return data.view("<f4").astype(np.float32)


def _f16(data: Bytes) -> Floats:
    return data.view("<f2").astype(np.float32)


def _bf16(data: Bytes) -> Floats:
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


F32 = BlockType("F32", 1, 4, _f32)
F16 = BlockType("F16", 1, 2, _f16)
BF16 = BlockType("BF16", 1, 2, _bf16)


def _nibbles(packed: Bytes) -> Floats:
    """(N, 16) bytes -> (N, 32): the low halves of all bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


def _column(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte ``at`` of each block, as (N, 1)."""
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)


def _q4_0(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 18)
    return (_column(blocks, 0) * (_nibbles(blocks[:, 2:]) - 8)).reshape(-1)


def _q4_1(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 20)
    return (_column(blocks, 0) * _nibbles(blocks[:, 4:]) + _column(blocks, 2)).reshape(-1)


def _q8_0(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 34)
    return (_column(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)).reshape(-1)


Q4_0 = BlockType("Q4_0", 32, 18, _q4_0)
Q4_1 = BlockType("Q4_1", 32, 20, _q4_1)
Q8_0 = BlockType("Q8_0", 32, 34, _q8_0)

BY_GGML_ID: dict[int, BlockType] = {0: F32, 1: F16, 2: Q4_0, 3: Q4_1, 8: Q8_0, 30: BF16}
"""Number in a GGUF file -> type."""

GGML_NAMES: dict[int, str] = {
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
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
"""Types that exist and are not read, for messages."""
