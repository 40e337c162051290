"""safetensors files, read with nothing but numpy: a JSON header, then the bytes of all tensors without gaps.

Layout (https://huggingface.co/docs/safetensors): u64 little-endian header length, header, data. It is stricter than the
reference library: it refuses whatever that refuses, and duplicate names as well. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint.block_types import BF16, F16, F32, BlockType
from empu.errors import CheckpointError, UnsupportedError
from empu.system.durable import atomic_file
from empu.system.files import ByteArray, map_file
from empu.system.json import MAX_JSON_BYTES, JsonError, json_kind, parse_json_object
from empu.system.quoting import quoted

FLOAT_TYPES: dict[str, BlockType] = {"F32": F32, "F16": F16, "BF16": BF16}
"""The types that models are read and written in."""

DTYPE_BYTES: dict[str, int] = {
    dtype: size
    for size, dtypes in {
        1: ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"),
        2: ("U16", "I16", "F16", "BF16"),
        4: ("U32", "I32", "F32"),
        8: ("U64", "I64", "F64", "C64"),
    }.items()
    for dtype in dtypes
}
"""Bytes per value. Types below one byte are missing: no supported model uses them, and errors name them."""

_METADATA = "__metadata__"
_PREFIX_BYTES = 8
_MAX_DIMENSIONS = 64
_UINT64_END = 1 << 64
"""Every step of a product is checked against this, as in the reference, which would otherwise overflow."""


@dataclass(frozen=True, slots=True)
class SafetensorsEntry:
    """One tensor of the header. Its data is at bytes ``start`` to ``end`` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """An open file: its entries by name, in the order of their data, and the memory map that contains them."""

    path: Path
    entries: Mapping[str, SafetensorsEntry]
    metadata: Mapping[str, str]
    mapped: ByteArray

    def bytes_of(self, name: str) -> ByteArray:
        """Return the raw bytes of one tensor, memory-mapped."""
        entry = self.entries[name]
        return self.mapped[entry.start : entry.end]

    def type_of(self, name: str) -> BlockType:
        """Return the float type of one tensor. Raises :class:`UnsupportedError` for other types."""
        entry = self.entries[name]
        try:
            return FLOAT_TYPES[entry.dtype]
        except KeyError:
            raise UnsupportedError(
                f"{self.path}: tensor {quoted(name)} at byte {entry.start:,} has the type {entry.dtype}; "
                f"Empu reads {', '.join(FLOAT_TYPES)}."
            ) from None


def read_safetensors(path: Path) -> SafetensorsFile:
    """Open a file and check its header, without reading tensors.

    Raises :class:`CheckpointError` for a damaged file and :class:`UnsupportedError` for an unknown value type.
    """
    mapped = map_file(path)
    entries, metadata = parse_header(mapped, str(path))
    return SafetensorsFile(path, entries, metadata, mapped)


def parse_header(mapped: ByteArray, where: str) -> tuple[dict[str, SafetensorsEntry], dict[str, str]]:
    """Return the entries and metadata of a whole file in memory. ``where`` begins the error messages."""
    length = int.from_bytes(mapped[:_PREFIX_BYTES].tobytes(), "little")
    data_start = _PREFIX_BYTES + length
    if len(mapped) < _PREFIX_BYTES or data_start > len(mapped):
        raise CheckpointError(
            f"{where} is not a complete safetensors file: the header length at byte 0 is {length:,} and the file has "
            f"{len(mapped):,} bytes."
        )
    if length > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{where}: the header length at byte 0 is {length:,}; at most {MAX_JSON_BYTES:,} bytes are read."
        )
    text = mapped[_PREFIX_BYTES:data_start].tobytes()
    if not text.startswith(b"{"):
        raise CheckpointError(f"{where} is not a safetensors file: its header at byte 8 does not begin with '{{'.")
    try:
        header = parse_json_object(text)
    except JsonError as error:
        raise CheckpointError(f"{where}: the header at byte 8 is not usable JSON: {error}.") from error
    metadata = _parse_metadata(header.pop(_METADATA, None), where)
    entries = [_parse_entry(name, value, data_start, where) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    _check_coverage(entries, data_start, len(mapped), where)
    return {entry.name: entry for entry in entries}, metadata


def _parse_metadata(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: {_METADATA} is {json_kind(value)}; expected an object.")
    for key, text in value.items():
        if not isinstance(text, str):
            raise CheckpointError(f"{where}: {_METADATA} {quoted(key)} is not a string.")
    return value


def _parse_entry(name: str, value: object, data_start: int, where: str) -> SafetensorsEntry:
    where = f"{where}: tensor {quoted(name)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where} needs exactly dtype, shape and data_offsets.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        unknown = quoted(dtype) if isinstance(dtype, str) else json_kind(dtype)
        raise UnsupportedError(f"{where}: its dtype is {unknown}; Empu reads {', '.join(FLOAT_TYPES)}.")
    if not (isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS and all(map(_is_size, shape))):
        raise CheckpointError(
            f"{where}: its shape is not a list of at most {_MAX_DIMENSIONS} whole numbers below 2^64."
        )
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(_is_size, offsets))):
        raise CheckpointError(f"{where}: its data_offsets are not two whole numbers below 2^64.")
    size = DTYPE_BYTES[dtype] * 8  # in bits, to overflow where the reference does
    n_values = 1
    for length in shape:
        n_values *= length
        if n_values >= _UINT64_END:
            break
    begin, end = offsets
    if n_values >= _UINT64_END or n_values * size >= _UINT64_END or end - begin != n_values * size // 8:
        raise CheckpointError(
            f"{where}: shape {shape} of {dtype} does not fill the bytes {begin:,} to {end:,} of the data."
        )
    return SafetensorsEntry(name, dtype, tuple(shape), data_start + begin, data_start + end)


def _check_coverage(entries: list[SafetensorsEntry], data_start: int, file_bytes: int, where: str) -> None:
    """Check that each byte of the data belongs to exactly one tensor."""
    position = data_start
    for entry in entries:
        if entry.start != position:
            problem = "overlaps the one before" if entry.start < position else "leaves a gap before it"
            raise CheckpointError(
                f"{where}: tensor {quoted(entry.name)} at byte {entry.start:,} {problem}; expected byte {position:,}."
            )
        position = entry.end
    if position != file_bytes:
        problem = "is cut off" if position > file_bytes else "has bytes that belong to no tensor"
        raise CheckpointError(f"{where} {problem}: its tensors end at byte {position:,}, the file at {file_bytes:,}.")


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _UINT64_END  # excludes bool, which is an int in Python


@dataclass(frozen=True, slots=True)
class PendingTensor:
    """A tensor to write: its entry in the header, and a function that returns its bytes."""

    name: str
    type: BlockType
    shape: tuple[int, ...]
    load: Callable[[], ByteArray]

    @property
    def n_bytes(self) -> int:
        """Size of its data."""
        return math.prod(self.shape) * self.type.block_bytes


def write_safetensors(path: Path, tensors: Iterable[PendingTensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a file, one tensor in memory at a time. The file appears whole or not at all.

    Wider types come first, so that every tensor is aligned to its values. The header is padded to 8 bytes. Raises
    :class:`CheckpointError` when writing fails, and ``ValueError`` for a duplicate name or data that does not fit the
    shape.
    """
    ordered = sorted(tensors, key=lambda tensor: -tensor.type.block_bytes)
    with atomic_file(path) as file:
        header = _encode_header(ordered, metadata or {})
        file.write(len(header).to_bytes(_PREFIX_BYTES, "little"))
        file.write(header)
        for tensor in ordered:
            data = tensor.load()
            if data.nbytes != tensor.n_bytes:
                raise ValueError(f"{tensor.name} has {data.nbytes} bytes, expected {tensor.n_bytes}")
            file.write(data.data)


def _encode_header(tensors: list[PendingTensor], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    position = 0
    for tensor in tensors:
        if tensor.name in header or tensor.name == _METADATA:
            raise ValueError(f"two tensors are called {tensor.name!r}")
        if tensor.type.name not in FLOAT_TYPES:
            raise ValueError(f"{tensor.name} has the type {tensor.type.name}, which safetensors does not have")
        header[tensor.name] = {
            "dtype": tensor.type.name,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.n_bytes],
        }
        position += tensor.n_bytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return text + b" " * (-len(text) % _PREFIX_BYTES)
