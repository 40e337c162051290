"""Writing GGUF version 3: header, key/values, tensor table, then the tensors one at a time.

The file appears whole or not at all. Tensors that are of the wanted type already are copied byte for byte.
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
from empu.checkpoint.blocks import BY_GGML_ID, F16, F32, BlockType, Bytes
from empu.checkpoint.formats.gguf.config import ROPE_FACTORS, rope_factors, write_config
from empu.checkpoint.formats.gguf.container import ALIGNMENT, ARRAY, BOOL, MAGIC, SCALARS, STRING
from empu.checkpoint.tensor_names import Shape, expected
from empu.config import ModelConfig, RopeScaling
from empu.errors import CheckpointError
from empu.system.durable import replacing
from empu.system.json import shown

VERSION = 3

TypeFor = Callable[[str, Shape], BlockType]
"""(our name, row-major shape) -> the type in which to write a tensor."""

_OWN_KEYS = ("general.architecture", "general.alignment", "general.file_type", "general.quantization_version")
_OWN_PREFIXES = ("llama.", "split.")
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}
_FILE_TYPES |= {"Q2_K": 10, "Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18}
"""general.file_type by the type that most values have (``llama_ftype`` in llama.h; the middle one where there are
several).
"""

_GGML_IDS = {type_.name: number for number, type_ in BY_GGML_ID.items()}
_KINDS = {dtype: kind for kind, dtype in SCALARS.items()}


def usual_types(type_: BlockType) -> TypeFor:
    """``type_`` for the matrices, F32 for the norms, and F16 for matrices whose rows are no multiple of a block."""

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
    """Write the model of ``config`` with the tensors that ``tensors`` gives for our names, each asked for once.

    ``metadata`` is written beside the configuration: ``general.*``, ``tokenizer.*`` and whatever else. Integers become
    32 bits wide where they fit and floats float32, as readers of this format expect; numpy values keep their type. Keys
    that follow from the configuration (``llama.*``, ``general.architecture`` …) are written by this function and
    skipped in ``metadata``, so that the metadata of another GGUF file can be given as they are.

    Raises :class:`CheckpointError` for values that no key can hold, tensors of the wrong shape, values that the wanted
    type cannot hold, and a file that cannot be written.
    """
    plan = list(_plan(config, tensors, type_for))
    keys = _all_keys(config, plan, metadata)
    header = [MAGIC, struct.pack("<IQQ", VERSION, len(plan), len(keys))]
    header += [_string(key) + _value(key, value) for key, value in keys.items()]
    offset = 0
    for tensor in plan:
        dims = tuple(reversed(tensor.shape))
        header.append(_string(tensor.foreign) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        header.append(struct.pack("<IQ", _GGML_IDS[tensor.type.name], offset))
        offset += _padded(tensor.size)
    with replacing(path) as file:
        _write_padded(file, b"".join(header))
        for tensor in plan:
            data = tensor.data()
            if len(data) != tensor.size:
                raise CheckpointError(f"{path}: {tensor.foreign} has {len(data):,} bytes instead of {tensor.size:,}.")
            _write_padded(file, data.data)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A tensor that will be written: what the table says of it, and how to get its bytes."""

    foreign: str
    shape: Shape
    type: BlockType
    data: Callable[[], Bytes]

    @property
    def values(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def size(self) -> int:
        return self.values // self.type.block_values * self.type.block_bytes


def _plan(config: ModelConfig, tensors: Callable[[str], StoredTensor], type_for: TypeFor) -> Iterator[_Planned]:
    if isinstance(config.rope_scaling, RopeScaling):
        factors = rope_factors(config, config.rope_scaling)
        yield _Planned(ROPE_FACTORS, factors.shape, F32, lambda: factors.view(np.uint8))
    for named in expected(config, "gguf"):
        name, shape = named.name, named.shape
        type_ = type_for(name, shape)
        if shape[-1] % type_.block_values:
            raise CheckpointError(
                f"{name} has rows of {shape[-1]:,} values, no multiple of {type_.block_values} as {type_.name} needs; "
                "write it in another type."
            )

        def data(name: str = name, shape: Shape = shape, type_: BlockType = type_) -> Bytes:
            tensor = tensors(name)
            if tensor.shape != shape:
                raise CheckpointError(f"{name} has the shape {tensor.shape}; the configuration asks for {shape}.")
            return _as_type(tensor, type_)

        yield _Planned(named.foreign, shape, type_, data)


def _as_type(tensor: StoredTensor, type_: BlockType) -> Bytes:
    """The bytes of ``tensor`` in ``type_``: its own where they are of that type, else packed."""
    if tensor.type.name == type_.name:
        return tensor.data
    if type_.pack is None:
        raise CheckpointError(
            f"{tensor.name} is {tensor.type.name} and should become {type_.name}, which Empu reads but does not make; "
            "choose F32, F16, BF16, Q4_0, Q4_1 or Q8_0."
        )
    values = tensor.float32().reshape(-1)
    packed = type_.pack(values)
    finite = bool(np.isfinite(values).all())
    if not finite and type_.block_values > 1:
        raise CheckpointError(f"{tensor.name} holds values that are not finite; {type_.name} cannot hold these.")
    if finite and type_.name != F32.name and not np.isfinite(type_.unpack(packed)).all():
        raise CheckpointError(
            f"{tensor.name} holds {np.abs(values).max():.6g}, which is beyond {type_.name}; write another type."
        )
    return packed


def _all_keys(config: ModelConfig, plan: Sequence[_Planned], metadata: Mapping[str, Any]) -> dict[str, Any]:
    keys = write_config(config)
    given = {k: v for k, v in metadata.items() if k not in _OWN_KEYS and not k.startswith(_OWN_PREFIXES)}
    values: Counter[str] = Counter()
    for tensor in plan:
        values[tensor.type.name] += tensor.values
    commonest = values.most_common(1)[0][0]
    keys["general.file_type"] = _FILE_TYPES[commonest]
    if any(tensor.type.block_values > 1 for tensor in plan):
        keys["general.quantization_version"] = 2
    return keys | given


def _string(text: str) -> bytes:
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        raise CheckpointError(f"The metadata hold {shown(text)}, which is no text that UTF-8 can write.") from None
    return struct.pack("<Q", len(raw)) + raw


def _value(key: str, value: object) -> bytes:
    """A value with its type before it."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return struct.pack("<I", ARRAY) + _array(key, value)
    if isinstance(value, np.generic):
        scalar = np.asarray(value).reshape(1)
    else:
        scalar = _numbers(key, [value], ("<u4", "<i4", "<u8", "<i8"))
    return struct.pack("<I", _kind(key, scalar)) + scalar.tobytes()


def _array(key: str, value: Sequence[Any] | np.ndarray[Any, Any]) -> bytes:
    """A one-dimensional array: element type, length, elements."""
    if not isinstance(value, np.ndarray) and len(value) > 0:
        if all(isinstance(item, str) for item in value):
            return struct.pack("<IQ", STRING, len(value)) + b"".join(map(_string, value))
        if all(isinstance(item, (list, tuple, np.ndarray)) for item in value):
            return struct.pack("<IQ", ARRAY, len(value)) + b"".join(_array(key, item) for item in value)
    numbers = value if isinstance(value, np.ndarray) else _numbers(key, value, ("<i4", "<u4", "<i8", "<u8"))
    return struct.pack("<IQ", _kind(key, numbers), len(numbers)) + numbers.tobytes()


def _numbers(key: str, values: Sequence[object], integers: Sequence[str]) -> np.ndarray[Any, Any]:
    """Python numbers of one sort, whole ones in the first type of ``integers`` that holds them all."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, dtype="?")
    if kinds == {float} or kinds == {int, float}:
        with np.errstate(over="ignore"):
            narrow, wide = np.array(values, dtype="<f4"), np.array(values, dtype="<f8")
        return narrow if (np.isfinite(narrow) == np.isfinite(wide)).all() else wide
    if kinds <= {int}:
        for dtype in integers:
            try:
                return np.array(values, dtype=dtype)
            except OverflowError:
                continue
    raise CheckpointError(f"The metadata key {key} holds {shown(repr(values))}, which GGUF has no type for.")


def _kind(key: str, numbers: np.ndarray[Any, Any]) -> int:
    if numbers.dtype not in _KINDS:
        raise CheckpointError(f"The metadata key {key} holds {numbers.dtype} values, which GGUF has no type for.")
    return BOOL if numbers.dtype == np.bool_ else _KINDS[numbers.dtype]


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write_padded(file: BinaryIO, data: bytes | memoryview) -> None:
    file.write(data)
    file.write(bytes(_padded(len(data)) - len(data)))
