"""Converts checkpoint tensors to the packed matrices of the native engine.

The packed format of each stored type:

- Q4_0: 4 bits with a scale, exactly. Q4_1: 4 bits with a scale and a minimum, exactly. Q4_K too, but the product of
  its two scales is rounded to a 16-bit float.
- Q8_0: 8 bits, exactly. Other quantised types and 16-bit floats: rounded to 8 bits with one scale for each 32 values,
  an error of at most 1/254 of the largest of them.
- F32, and 16-bit floats whose columns are not a multiple of 32: 32-bit floats.

``BackendOptions.quant`` rounds everything with more bits to 8 or to 4. With 4, embedding and output layer keep 8 bits:
they are a small part of the work, and their rounding costs the most quality.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from empu.checkpoint import Checkpoint
from empu.checkpoint.block_types import BlockType
from empu.config import LinearRopeScaling, ModelConfig
from empu.engine import _native
from empu.engine.backends.options import DEFAULT_OPTIONS, BackendOptions
from empu.engine.backends.weight_cache import MatrixSpec, WeightCacheFile
from empu.errors import CheckpointError
from empu.system.cpu import available_cpus

FloatArray = npt.NDArray[np.float32]

_GROUP_SIZE = 32
_KEEP_8_BITS = ("embedding.weight", "output.weight")
_4_BIT_FORMATS = {"Q4_0": "q4-symmetric", "Q4_1": "q4", "Q4_K": "q4"}
_VALUES_PER_TASK = 1 << 20
"""Values that one worker unpacks to float32 at a time."""
_MAX_WORKERS = 8


def build_native_model(checkpoint: Checkpoint, options: BackendOptions = DEFAULT_OPTIONS) -> _native.Model:
    """Return the weights of ``checkpoint`` in the engine's layout. Memory beside them: a few slices of one tensor.

    With ``options.weight_cache`` they are mapped from a file there, or packed and saved to it.
    """
    config = checkpoint.config
    model = _native.Model(
        n_layers=config.n_layers,
        dim=config.dim,
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        ffn_dim=config.ffn_dim,
        vocab_size=config.vocab_size,
        norm_eps=config.norm_eps,
        sliding_window=config.sliding_window or 0,
        tie_embeddings=config.tie_embeddings,
    )
    specs = matrix_specs(checkpoint, options.quant)
    for name in checkpoint.names():
        if len(checkpoint.shape(name)) == 1:
            norm = checkpoint.tensor(name).float32()
            _check_finite(checkpoint, name, norm)
            model.set_norm(name, norm)
    location = options.weight_cache
    cache_file = WeightCacheFile.for_checkpoint(location, checkpoint, specs) if location is not None else None
    if cache_file is not None and cache_file.map_into(model):
        return model
    for spec in specs:
        _pack(model, checkpoint, spec)
    if cache_file is not None:
        cache_file.save(model)
    return model


def matrix_specs(checkpoint: Checkpoint, quant: str | None = None) -> list[MatrixSpec]:
    """Return name, packed format and shape of each matrix of ``checkpoint``, in file order."""
    shapes = {name: checkpoint.shape(name) for name in checkpoint.names()}
    return [
        MatrixSpec(name, _packed_format(name, checkpoint.stored_type(name), shape[1], quant), *shape)
        for name, shape in shapes.items()
        if len(shape) == 2
    ]


def packed_size_bytes(checkpoint: Checkpoint, quant: str | None = None) -> int:
    """Return the memory that the packed matrices of ``checkpoint`` will take."""
    return sum(spec.size_bytes for spec in matrix_specs(checkpoint, quant))


def rope_frequencies(config: ModelConfig) -> FloatArray:
    """(head_dim / 2,) radians per position of each pair, with the config's scaling; computed in float32."""
    exponents = np.arange(0, config.head_dim, 2).astype(np.float32) / np.float32(config.head_dim)
    frequencies: FloatArray = np.float32(1) / np.float32(config.rope_theta) ** exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if isinstance(scaling, LinearRopeScaling):
        return frequencies / np.float32(scaling.factor)
    # Llama 3.1: divide low frequencies by the factor, keep high ones, interpolate between them.
    wavelengths = np.float32(2 * math.pi) / frequencies
    low, high = np.float32(scaling.low_freq_factor), np.float32(scaling.high_freq_factor)
    smooth = np.clip((np.float32(scaling.original_context) / wavelengths - low) / (high - low), 0, 1)
    scaled: FloatArray = (1 - smooth) * frequencies / np.float32(scaling.factor) + smooth * frequencies
    return scaled.astype(np.float32)


def _packed_format(name: str, stored: BlockType, cols: int, quant: str | None) -> str:
    """Return ``q4``, ``q4-symmetric``, ``q8`` or ``float32``; see the module docstring."""
    if cols % _GROUP_SIZE or (stored.name == "F32" and quant is None):
        return "float32"
    if stored.name in _4_BIT_FORMATS:
        return _4_BIT_FORMATS[stored.name]
    return "q4" if quant == "q4" and name not in _KEEP_8_BITS else "q8"


def _pack(model: _native.Model, checkpoint: Checkpoint, spec: MatrixSpec) -> None:
    tensor = checkpoint.tensor(spec.name)
    rows, cols, stored_type = spec.rows, spec.cols, tensor.type.name
    model.allocate(tensor.name, spec.format, rows, cols)
    if (spec.format, stored_type) == ("q8", "Q8_0") or stored_type in _4_BIT_FORMATS:
        try:
            model.pack(tensor.name, 0, rows, stored_type, np.ascontiguousarray(tensor.data))
        except _native.NotFiniteError:
            raise _not_finite_error(checkpoint, tensor.name) from None
        return
    row_bytes = cols // tensor.type.block_values * tensor.type.block_bytes
    rows_per_task = max(1, _VALUES_PER_TASK // cols)

    def pack_rows(first: int) -> None:
        count = min(rows_per_task, rows - first)
        values = tensor.type.unpack(tensor.data[first * row_bytes : (first + count) * row_bytes])
        _check_finite(checkpoint, tensor.name, values)
        model.pack(tensor.name, first, count, "F32", values.view(np.uint8))

    with ThreadPoolExecutor(min(_MAX_WORKERS, available_cpus())) as workers:
        deque(workers.map(pack_rows, range(0, rows, rows_per_task)), maxlen=0)


def _check_finite(checkpoint: Checkpoint, name: str, values: FloatArray) -> None:
    if not np.isfinite(values).all():
        raise _not_finite_error(checkpoint, name)


def _not_finite_error(checkpoint: Checkpoint, name: str) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path}: {name} holds a value that is not finite, so the model cannot be used; fetch it again, or "
        "choose another model."
    )
