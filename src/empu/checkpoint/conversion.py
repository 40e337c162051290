"""Conversion of stored tensors to another block type."""

from __future__ import annotations

import numpy as np

from empu.checkpoint.base import StoredTensor
from empu.checkpoint.block_types import BLOCK_TYPES_BY_NAME, F32, BlockType
from empu.errors import CheckpointError
from empu.system.files import ByteArray


def convert(tensor: StoredTensor, type_: BlockType) -> ByteArray:
    """Return the values of ``tensor`` as flat bytes of ``type_``; bytes that have this type already are not copied.

    Floats are rounded to nearest, ties to even. Raises :class:`CheckpointError` for a type that Empu cannot write, for
    finite values that would become infinite, and for infinity or NaN in a quantised type.
    """
    if tensor.type.name == type_.name:
        return tensor.data
    if type_.pack is None:
        writable = ", ".join(name for name, known in BLOCK_TYPES_BY_NAME.items() if known.pack is not None)
        raise CheckpointError(
            f"{tensor.name} is {tensor.type.name} and should become {type_.name}, which Empu reads but cannot write; "
            f"choose one of {writable}."
        )
    values = tensor.float32().reshape(-1)
    packed = type_.pack(values)
    is_finite = bool(np.isfinite(values).all())
    if not is_finite and type_.block_values > 1:
        raise CheckpointError(f"{tensor.name} holds values that are not finite; {type_.name} cannot store these.")
    if is_finite and type_.name != F32.name and not np.isfinite(type_.unpack(packed)).all():
        raise CheckpointError(
            f"{tensor.name} holds {np.abs(values).max():.6g}, which is beyond the range of {type_.name}; choose "
            "another type."
        )
    return packed
