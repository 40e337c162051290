"""The GGUF writer, version 3: header, key/values, tensor table, then the tensors one at a time.

The file appears whole or not at all. Tensors that have the requested type already are copied byte for byte.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from empu.checkpoint.base import StoredTensor
from empu.checkpoint.block_types import BLOCK_TYPES_BY_GGML_ID, F16, F32, BlockType
from empu.checkpoint.conversion import convert
from empu.checkpoint.families import GGUF_ARCHITECTURES
from empu.checkpoint.formats.gguf.config import ROPE_FACTORS, rope_factors, write_config
from empu.checkpoint.formats.gguf.container import ALIGNMENT, ARRAY, BOOL, MAGIC, SCALARS, STRING
from empu.checkpoint.tensor_names import Shape, expected_tensors
from empu.config import ModelConfig, RopeScaling
from empu.errors import CheckpointError
from empu.system.durable import atomic_file
from empu.system.files import ByteArray
from empu.system.quoting import quoted

VERSION = 3

TypeFor = Callable[[str, Shape], BlockType]
"""(canonical name, row-major shape) -> the type in which to write a tensor."""

_COMPUTED_KEYS = ("general.architecture", "general.alignment", "general.file_type", "general.quantization_version")
_COMPUTED_PREFIXES = (*(f"{name}." for name in sorted(GGUF_ARCHITECTURES)), "split.")
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}
_FILE_TYPES |= {"Q2_K": 10, "Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18}
"""Type of most values -> ``general.file_type`` (``llama_ftype`` in llama.h; of the S, M and L variants, M)."""

_GGML_IDS = {type_.name: type_id for type_id, type_ in BLOCK_TYPES_BY_GGML_ID.items()}
_TYPE_IDS = {dtype: type_id for type_id, dtype in SCALARS.items()}


def default_types(type_: BlockType) -> TypeFor:
    """Return ``type_`` for matrices, F32 for norms, and F16 for matrices whose rows are not a multiple of a block."""

    def choose(name: str, shape: Shape) -> BlockType:
        if len(shape) == 1:
            return F32
        return type_ if shape[-1] % type_.block_values == 0 else F16

    return choose


def write_gguf(
    path: Path,
    config: ModelConfig,
    tensors: Callable[[str], StoredTensor],
    *,
    type_for: TypeFor,
    metadata: Mapping[str, Any],
) -> None:
    """Write a model. ``tensors`` returns a tensor by its canonical name and is called once for each.

    ``metadata`` adds further keys: ``general.*``, ``tokenizer.*`` and others. Integers are written in 32 bits where
    they fit and floats as float32, as readers of GGUF expect; numpy values keep their type. Keys that follow from the
    config (``llama.*``, ``general.architecture`` …) are ignored in ``metadata``, so the metadata of another GGUF file
    can be passed unchanged.

    Raises :class:`CheckpointError` for values that GGUF cannot store, tensors of the wrong shape, values beyond the
    range of the type, and a file that cannot be written.
    """
    plan = list(_plan(config, tensors, type_for))
    write_gguf_file(path, _metadata_keys(config, plan, metadata), plan)


def write_gguf_file(path: Path, keys: Mapping[str, Any], plan: Sequence[GgufEntry]) -> None:
    """Write a GGUF file with these keys and tensors, whatever model they belong to. Raises :class:`CheckpointError`."""
    header = [MAGIC, struct.pack("<IQQ", VERSION, len(plan), len(keys))]
    header += [_encode_string(key) + _encode_value(key, value) for key, value in keys.items()]
    offset = 0
    for tensor in plan:
        dims = tuple(reversed(tensor.shape))
        header.append(_encode_string(tensor.stored_name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        header.append(struct.pack("<IQ", _GGML_IDS[tensor.type.name], offset))
        offset += _padded(tensor.n_bytes)
    with atomic_file(path) as file:
        _write_padded(file, b"".join(header))
        for tensor in plan:
            data = tensor.data()
            if len(data) != tensor.n_bytes:
                raise CheckpointError(
                    f"{path}: {tensor.stored_name} has {len(data):,} bytes instead of {tensor.n_bytes:,}."
                )
            _write_padded(file, data.data)


@dataclass(frozen=True, slots=True)
class GgufEntry:
    """A tensor to write: its entry in the tensor table, and a function that returns its bytes."""

    stored_name: str
    shape: Shape
    type: BlockType
    data: Callable[[], ByteArray]

    @property
    def n_values(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def n_bytes(self) -> int:
        return self.n_values // self.type.block_values * self.type.block_bytes


def _plan(config: ModelConfig, tensors: Callable[[str], StoredTensor], type_for: TypeFor) -> Iterator[GgufEntry]:
    if isinstance(config.rope_scaling, RopeScaling):
        factors = rope_factors(config, config.rope_scaling)
        yield GgufEntry(ROPE_FACTORS, factors.shape, F32, lambda: factors.view(np.uint8))
    for expected in expected_tensors(config, "gguf"):
        name, shape = expected.name, expected.shape
        type_ = type_for(name, shape)
        if shape[-1] % type_.block_values:
            raise CheckpointError(
                f"{name} has rows of {shape[-1]:,} values, not a multiple of {type_.block_values} as {type_.name} "
                "needs; choose another type."
            )

        def data(name: str = name, shape: Shape = shape, type_: BlockType = type_) -> ByteArray:
            tensor = tensors(name)
            if tensor.shape != shape:
                raise CheckpointError(f"{name} has the shape {tensor.shape}; the config asks for {shape}.")
            return convert(tensor, type_)

        yield GgufEntry(expected.stored_name, shape, type_, data)


def _metadata_keys(config: ModelConfig, plan: Sequence[GgufEntry], metadata: Mapping[str, Any]) -> dict[str, Any]:
    keys = write_config(config)
    extra = {
        key: value
        for key, value in metadata.items()
        if key not in _COMPUTED_KEYS and not key.startswith(_COMPUTED_PREFIXES)
    }
    values_per_type: Counter[str] = Counter()
    for tensor in plan:
        values_per_type[tensor.type.name] += tensor.n_values
    main_type = values_per_type.most_common(1)[0][0]
    keys["general.file_type"] = _FILE_TYPES[main_type]
    if any(tensor.type.block_values > 1 for tensor in plan):
        keys["general.quantization_version"] = 2
    return keys | extra


def _encode_string(text: str) -> bytes:
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        raise CheckpointError(f"The metadata holds {quoted(text)}, which cannot be written as UTF-8.") from None
    return struct.pack("<Q", len(raw)) + raw


def _encode_value(key: str, value: object) -> bytes:
    """Encode a value, preceded by its type."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _encode_string(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return struct.pack("<I", ARRAY) + _encode_array(key, value)
    if isinstance(value, np.generic):
        scalar = np.asarray(value).reshape(1)
    else:
        scalar = _to_array(key, [value], ("<u4", "<i4", "<u8", "<i8"))
    return struct.pack("<I", _type_id(key, scalar)) + scalar.tobytes()


def _encode_array(key: str, value: Sequence[Any] | np.ndarray[Any, Any]) -> bytes:
    """Encode a one-dimensional array: element type, length, elements."""
    if not isinstance(value, np.ndarray) and len(value) > 0:
        if all(isinstance(item, str) for item in value):
            return struct.pack("<IQ", STRING, len(value)) + b"".join(map(_encode_string, value))
        if all(isinstance(item, (list, tuple, np.ndarray)) for item in value):
            return struct.pack("<IQ", ARRAY, len(value)) + b"".join(_encode_array(key, item) for item in value)
    numbers = value if isinstance(value, np.ndarray) else _to_array(key, value, ("<i4", "<u4", "<i8", "<u8"))
    return struct.pack("<IQ", _type_id(key, numbers), len(numbers)) + numbers.tobytes()


def _to_array(key: str, values: Sequence[object], integer_types: Sequence[str]) -> np.ndarray[Any, Any]:
    """Convert Python numbers to an array. Integers take the first type of ``integer_types`` that holds them all."""
    types = {type(value) for value in values}
    if types == {bool}:
        return np.array(values, dtype="?")
    if types == {float} or types == {int, float}:
        with np.errstate(over="ignore"):
            narrow, wide = np.array(values, dtype="<f4"), np.array(values, dtype="<f8")
        return narrow if (np.isfinite(narrow) == np.isfinite(wide)).all() else wide
    if types <= {int}:
        for dtype in integer_types:
            try:
                return np.array(values, dtype=dtype)
            except OverflowError:
                continue
    raise CheckpointError(f"The metadata key {key} holds {quoted(repr(values))}, which GGUF cannot store.")


def _type_id(key: str, numbers: np.ndarray[Any, Any]) -> int:
    if numbers.dtype not in _TYPE_IDS:
        raise CheckpointError(f"The metadata key {key} holds {numbers.dtype} values, which GGUF cannot store.")
    return BOOL if numbers.dtype == np.bool_ else _TYPE_IDS[numbers.dtype]


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write_padded(file: BinaryIO, data: bytes | memoryview) -> None:
    file.write(data)
    file.write(bytes(_padded(len(data)) - len(data)))
