"""Checkpoint tensors -> the packed matrices of the native engine, and the rotary frequencies it is given.

What each stored type becomes:

- Q4_0: 4 bits with a scale, exactly. Q4_1: 4 bits with a scale and a minimum, exactly; so is Q4_K, with the product of
  its two scales rounded to a 16-bit float.
- Q8_0: 8 bits, exactly. Other quantised types and 16-bit floats: rounded to 8 bits with one scale for each 32 values,
  an error of at most 1/254 of the largest of them.
- F32, and 16-bit floats whose columns are not whole groups of 32: 32-bit floats.

On request (``Storage.quant``) everything with more bits is brought down to 8 or to 4. With 4 the embedding and the
output layer keep 8: they are a small part of the work, and the answers feel their rounding most.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from empu.checkpoint import Checkpoint
from empu.checkpoint.blocks import BlockType
from empu.config import LinearRopeScaling, ModelConfig
from empu.engine import _native
from empu.engine.backends.storage import AS_IT_IS, Storage
from empu.engine.backends.weight_cache import MatrixPlan, PackedFile
from empu.errors import CheckpointError
from empu.system.cpu import processors

Floats = npt.NDArray[np.float32]

_GROUP = 32
_STAY_AT_EIGHT = ("embedding.weight", "output.weight")
_FOUR_BITS = {"Q4_0": "q4-symmetric", "Q4_1": "q4", "Q4_K": "q4"}
_UNPACKED_AT_ONCE = 1 << 20  # values, by each worker
_MOST_WORKERS = 8


def build_model(checkpoint: Checkpoint, storage: Storage = AS_IT_IS) -> _native.Model:
    """The weights of ``checkpoint`` in the engine's layout; beside them only a few slices of a tensor are in memory.

    Where ``storage`` has a place for packed weights they are mapped from there, or packed and put there.
    """
    config = checkpoint.config
    model = _native.Model(
        layers=config.n_layers,
        dim=config.dim,
        heads=config.n_heads,
        kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        ffn_dim=config.ffn_dim,
        vocabulary=config.vocab_size,
        norm_eps=config.norm_eps,
        window=config.sliding_window or 0,
        tied=config.tie_embeddings,
    )
    plan = matrix_plan(checkpoint, storage.quant)
    for name in checkpoint.names():
        if len(checkpoint.shape(name)) == 1:
            norm = checkpoint.tensor(name).float32()
            _check_finite(checkpoint, name, norm)
            model.set_norm(name, norm)
    file = PackedFile.of(storage.packed, checkpoint, plan) if storage.packed is not None else None
    if file is not None and file.map_into(model):
        return model
    for matrix in plan:
        _pack(model, checkpoint, matrix)
    if file is not None:
        file.keep(model)
    return model


def matrix_plan(checkpoint: Checkpoint, quant: str | None = None) -> list[MatrixPlan]:
    """The matrices of ``checkpoint`` in file order, and what each becomes when ``quant`` is asked for."""
    shapes = {name: checkpoint.shape(name) for name in checkpoint.names()}
    return [
        MatrixPlan(name, _kind(name, checkpoint.stored_type(name), shape[1], quant), *shape)
        for name, shape in shapes.items()
        if len(shape) == 2
    ]


def packed_bytes(checkpoint: Checkpoint, quant: str | None = None) -> int:
    """What the matrices of ``checkpoint`` will occupy."""
    return sum(matrix.bytes for matrix in matrix_plan(checkpoint, quant))


def rotary_frequencies(config: ModelConfig) -> Floats:
    """(head_dim / 2,) radians per position of each pair, scaled as the config says, in float32 steps."""
    exponents = np.arange(0, config.head_dim, 2).astype(np.float32) / np.float32(config.head_dim)
    frequencies: Floats = np.float32(1) / np.float32(config.rope_theta) ** exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if isinstance(scaling, LinearRopeScaling):
        return frequencies / np.float32(scaling.factor)
    # Llama 3.1: long waves are slowed down by the factor, short ones stay, those between are interpolated.
    wavelengths = np.float32(2 * math.pi) / frequencies
    low, high = np.float32(scaling.low_freq_factor), np.float32(scaling.high_freq_factor)
    share = np.clip((np.float32(scaling.original_context) / wavelengths - low) / (high - low), 0, 1)
    scaled: Floats = (1 - share) * frequencies / np.float32(scaling.factor) + share * frequencies
    return scaled.astype(np.float32)


def _kind(name: str, stored: BlockType, cols: int, quant: str | None) -> str:
    """``q4``, ``q4-symmetric``, ``q8`` or ``float32``, as the module's first lines say."""
    if cols % _GROUP or (stored.name == "F32" and quant is None):
        return "float32"
    if stored.name in _FOUR_BITS:
        return _FOUR_BITS[stored.name]
    return "q4" if quant == "q4" and name not in _STAY_AT_EIGHT else "q8"


def _not_finite(checkpoint: Checkpoint, name: str) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path}: {name} holds a number that is not finite, so nothing can be answered with it; fetch the "
        "model again, or another."
    )


def _check_finite(checkpoint: Checkpoint, name: str, values: Floats) -> None:
    if not np.isfinite(values).all():
        raise _not_finite(checkpoint, name)


def _pack(model: _native.Model, checkpoint: Checkpoint, matrix: MatrixPlan) -> None:
    tensor = checkpoint.tensor(matrix.name)
    rows, cols, stored = matrix.rows, matrix.cols, tensor.type.name
    model.make(tensor.name, matrix.kind, rows, cols)
    if (matrix.kind, stored) == ("q8", "Q8_0") or stored in _FOUR_BITS:
        try:
            model.pack(tensor.name, 0, rows, stored, np.ascontiguousarray(tensor.data))
        except _native.NotFiniteError:
            raise _not_finite(checkpoint, tensor.name) from None
        return
    row_bytes = cols // tensor.type.block_values * tensor.type.block_bytes
    step = max(1, _UNPACKED_AT_ONCE // cols)

    def pack(first: int) -> None:
        count = min(step, rows - first)
        values = tensor.type.unpack(tensor.data[first * row_bytes : (first + count) * row_bytes])
        _check_finite(checkpoint, tensor.name, values)
        model.pack(tensor.name, first, count, "F32", values.view(np.uint8))

    with ThreadPoolExecutor(min(_MOST_WORKERS, processors())) as workers:
        deque(workers.map(pack, range(0, rows, step)), maxlen=0)
