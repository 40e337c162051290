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
