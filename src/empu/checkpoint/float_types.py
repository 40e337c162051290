"""Rounding to the plain float types: any stored tensor -> bytes of F32, F16 or BF16.

The inverse directions are the ``unpack`` functions of ``blocks.py``.
"""

from __future__ import annotations

import numpy as np

from empu.checkpoint.base import StoredTensor
from empu.checkpoint.blocks import BF16, F16, F32, BlockType, Bytes, Floats
from empu.errors import CheckpointError


def convert(tensor: StoredTensor, type_: BlockType) -> Bytes:
    """The values of ``tensor`` as flat bytes of ``type_``; bytes that are of that type already are handed on.

    Rounds to nearest, ties to even. Raises :class:`CheckpointError` where a finite value would become infinite.
    """
    if tensor.type.name == type_.name:
        return tensor.data
    values = tensor.float32()
    with np.errstate(over="ignore"):
        packed = _PACK[type_.name](values.reshape(-1))
    if type_.name != F32.name and np.isfinite(values).all() and not np.isfinite(type_.unpack(packed)).all():
        raise CheckpointError(
            f"{tensor.name} holds {np.abs(values).max():.6g}, which is beyond {type_.name}; write another float type."
        )
    return packed


def _pack_f32(values: Floats) -> Bytes:
    return np.ascontiguousarray(values, dtype="<f4").view(np.uint8)


def _pack_f16(values: Floats) -> Bytes:
    return values.astype("<f2").view(np.uint8)


def _pack_bf16(values: Floats) -> Bytes:
    bits = values.astype("<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    not_a_number = (bits >> 16) | 0x40  # rounding could carry a NaN over into infinity
    return np.where(np.isnan(values), not_a_number, rounded).astype("<u2").view(np.uint8)


_PACK = {F32.name: _pack_f32, F16.name: _pack_f16, BF16.name: _pack_bf16}
