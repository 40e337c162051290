"""safetensors files, read with nothing but numpy: a JSON header, then the bytes of all tensors without a gap.

Layout (https://huggingface.co/docs/safetensors): u64 little-endian header length, header, data. Never laxer than the
reference library: what that refuses, this refuses too, and duplicate names as well, of which it keeps one.
Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint.blocks import BF16, F16, F32, BlockType
from empu.errors import CheckpointError, UnsupportedError
from empu.system.durable import replacing
from empu.system.json import JSON_LIMIT, Bytes, map_file, parse_json, shown

FLOATS: dict[str, BlockType] = {"F32": F32, "F16": F16, "BF16": BF16}
"""The types that models are read from and written in."""

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
"""Bytes per value. The sub-byte types are left out: nothing of this family uses them, and they are named when met."""

_METADATA = "__metadata__"
_PREFIX_BYTES = 8
_MAX_DIMENSIONS = 64
_WORD = 1 << 64
"""Sizes are checked step by step against this, as the reference does, so that no product wraps there and passes here.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the header. ``start`` and ``end`` count bytes from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """An open file: its entries by name, in the order of their bytes, and the map they point into."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    mapped: Bytes

    def bytes_of(self, name: str) -> Bytes:
        """The raw bytes of one tensor, still memory-mapped."""
        entry = self.entries[name]
        return self.mapped[entry.start : entry.end]

    def type_of(self, name: str) -> BlockType:
        """The float type of one tensor. Raises :class:`UnsupportedError` for others."""
        entry = self.entries[name]
        try:
            return FLOATS[entry.dtype]
        except KeyError:
            raise UnsupportedError(
                f"{self.path}: tensor {shown(name)} at byte {entry.start:,} has the type {entry.dtype}; "
                f"Empu reads {', '.join(FLOATS)}."
            ) from None


def read_safetensors(path: Path) -> SafetensorsFile:
    """Open a file and check its whole header; no tensor is touched.

    Raises :class:`CheckpointError` where the file is damaged, :class:`UnsupportedError` for an unknown value type.
    """
    mapped = map_file(path)
    entries, metadata = parse_header(mapped, str(path))
    return SafetensorsFile(path, entries, metadata, mapped)


def parse_header(mapped: Bytes, where: str) -> tuple[dict[str, Entry], dict[str, str]]:
    """Entries and metadata of a whole file that lies in memory; ``where`` opens each error message."""
    length = int.from_bytes(mapped[:_PREFIX_BYTES].tobytes(), "little")
    data_start = _PREFIX_BYTES + length
    if len(mapped) < _PREFIX_BYTES or data_start > len(mapped):
        raise CheckpointError(
            f"{where} is not a whole safetensors file: the header length at byte 0 is {length:,} and the file has "
            f"{len(mapped):,} bytes."
        )
    if length > JSON_LIMIT:
        raise CheckpointError(
            f"{where}: the header length at byte 0 is {length:,}; at most {JSON_LIMIT:,} bytes are read."
        )
    text = mapped[_PREFIX_BYTES:data_start].tobytes()
    if not text.startswith(b"{"):
        raise CheckpointError(f"{where} is not a safetensors file: its header at byte 8 does not begin with '{{'.")
    header = parse_json(text, f"{where}: the header at byte 8")
    assert isinstance(header, dict)  # it begins with a brace
    metadata = _parse_metadata(header.pop(_METADATA, None), where)
    entries = [_parse_entry(name, value, data_start, where) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    _check_cover(entries, data_start, len(mapped), where)
    return {entry.name: entry for entry in entries}, metadata


def _parse_metadata(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: {_METADATA} is a JSON {type(value).__name__}; expected an object.")
    for key, text in value.items():
        if not isinstance(text, str):
            raise CheckpointError(f"{where}: {_METADATA} {shown(key)} is not a string.")
    return value


def _parse_entry(name: str, value: object, data_start: int, where: str) -> Entry:
    here = f"{where}: tensor {shown(name)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{here} needs exactly dtype, shape and data_offsets.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        unknown = shown(dtype) if isinstance(dtype, str) else f"of JSON kind {type(dtype).__name__}"
        raise UnsupportedError(f"{here} has a dtype {unknown}; Empu reads {', '.join(FLOATS)}.")
    if not (isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS and all(map(_is_size, shape))):
        raise CheckpointError(f"{here}: its shape is not a list of at most {_MAX_DIMENSIONS} whole numbers below 2^64.")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(_is_size, offsets))):
        raise CheckpointError(f"{here}: its data_offsets are not two whole numbers below 2^64.")
    size = DTYPE_BYTES[dtype] * 8  # the reference multiplies bits; so do we, to overflow where it does
    values = 1
    for length in shape:
        values *= length
        if values >= _WORD:
            break
    begin, end = offsets
    if values >= _WORD or values * size >= _WORD or end - begin != values * size // 8:
        raise CheckpointError(
            f"{here}: shape {shape} of {dtype} does not fill the bytes {begin:,} to {end:,} of the data."
        )
    return Entry(name, dtype, tuple(shape), data_start + begin, data_start + end)


def _check_cover(entries: list[Entry], data_start: int, file_bytes: int, where: str) -> None:
    """Each byte of the data belongs to exactly one tensor."""
    position = data_start
    for entry in entries:
        if entry.start != position:
            what = "overlaps the one before" if entry.start < position else "leaves a gap before it"
            raise CheckpointError(
                f"{where}: tensor {shown(entry.name)} at byte {entry.start:,} {what}; expected byte {position:,}."
            )
        position = entry.end
    if position != file_bytes:
        what = "is cut off" if position > file_bytes else "has bytes that belong to no tensor"
        raise CheckpointError(f"{where} {what}: its tensors end at byte {position:,}, the file at {file_bytes:,}.")


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _WORD  # bool is an int in Python, and true is no length


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor to be written: what the header says of it now, and how to get its bytes when their turn comes."""

    name: str
    type: BlockType
    shape: tuple[int, ...]
    load: Callable[[], Bytes]

    @property
    def n_bytes(self) -> int:
        """Size of its data."""
        values = 1
        for length in self.shape:
            values *= length
        return values * self.type.block_bytes


def write_safetensors(path: Path, tensors: Iterable[Planned], metadata: Mapping[str, str] | None = None) -> None:
    """Write a file that appears whole or not at all; one tensor is in memory at a time.

    Wider types come first, so that every tensor is aligned to its values, and the header is padded to 8 bytes.
    Raises :class:`CheckpointError` when the disk refuses, and ``ValueError`` for a name twice or bytes that do not fit
    the shape.
    """
    ordered = sorted(tensors, key=lambda tensor: -tensor.type.block_bytes)
    with replacing(path) as file:
        text = _header(ordered, metadata or {})
        file.write(len(text).to_bytes(_PREFIX_BYTES, "little"))
        file.write(text)
        for tensor in ordered:
            data = tensor.load()
            if data.nbytes != tensor.n_bytes:
                raise ValueError(f"{tensor.name} has {data.nbytes} bytes, expected {tensor.n_bytes}")
            file.write(data.data)


def _header(tensors: list[Planned], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    position = 0
    for tensor in tensors:
        if tensor.name in header or tensor.name == _METADATA:
            raise ValueError(f"two tensors are called {tensor.name!r}")
        if tensor.type.name not in FLOATS:
            raise ValueError(f"{tensor.name} has the type {tensor.type.name}, which safetensors does not have")
        header[tensor.name] = {
            "dtype": tensor.type.name,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.n_bytes],
        }
        position += tensor.n_bytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return text + b" " * (-len(text) % _PREFIX_BYTES)
