"""The GGUF container, versions 2 and 3: key/values and the tensor table, held against the size of the file.

Layout after ``docs/gguf.md`` in the ggml repository. Knows nothing of models. No number in a file is believed: each
count is held against the bytes that its elements need at least before anything is allocated, so what a file costs in
memory is bounded by its own size, and by the limits below.

Strings are UTF-8, as the format has it, and a file with another string is refused: replacing bytes would silently make
other tokens, and tokens of single bytes have their own spelling (``<0x0A>``, ``Ġ``).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from empu.checkpoint.blocks import BY_GGML_ID, GGML_NAMES, BlockType
from empu.errors import CheckpointError, UnsupportedError
from empu.system.json import Bytes, map_file, shown

MAGIC = b"GGUF"
ALIGNMENT = 32
"""Of tensor data, unless ``general.alignment`` says otherwise."""

SCALARS: dict[int, np.dtype[Any]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
"""Number of a value type -> how one value of it lies in the file."""

BOOL, STRING, ARRAY = 7, 8, 9

_MAX_DEPTH = 4
"""Arrays inside arrays; no known file has any."""
_MAX_HEADER = 1 << 28
"""Bytes before the tensor data; 256,000 tokens with their merges need a tenth of this."""
_MAX_ITEMS = 1 << 22
"""Keys, strings and inner arrays together; the largest vocabularies have about 600,000."""
_MAX_TENSORS = 1 << 16
_MAX_KEY = 1 << 16
_MAX_NAME = 256
"""Bytes of a key, as the format has it, and of a tensor's name, where the format has 64 and writers differ."""
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies: bytes ``start`` to ``end`` of the file, ``shape`` row-major."""

    shape: tuple[int, ...]
    type: BlockType
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A container whose every part is known to lie inside the file."""

    path: Path
    data: Bytes
    metadata: Mapping[str, Any]
    """Numbers, strings and booleans; arrays of numbers are numpy arrays, arrays of strings are lists."""
    offsets: Mapping[str, int]
    """Byte at which each key stands, for messages."""
    tensors: Mapping[str, Place]
    """By the names in the file, in the order of its table."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse the header. Raises :class:`CheckpointError` for damage, naming the key or tensor and the byte, and
        :class:`UnsupportedError` for versions and tensor types that are not read.
        """
        data = map_file(path)
        cursor = _Cursor(data, path)
        _check_version(cursor)
        n_tensors = cursor.count("the number of tensors", 24, _MAX_TENSORS)
        n_keys = cursor.count("the number of keys", 13, _MAX_ITEMS)
        metadata, offsets = _key_values(cursor, n_keys)
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            found = f"{alignment:,}" if type(alignment) is int else "no whole number"
            raise CheckpointError(
                f"{path}: general.alignment at byte {offsets['general.alignment']:,} is {found}; expected a power of "
                "two from 8 on."
            )
        table = [_table_row(cursor) for _ in range(n_tensors)]
        begin = -(-cursor.at // alignment) * alignment
        return cls(path, data, metadata, offsets, _places(path, table, begin, len(data), alignment))

    def where(self, key: str) -> str:
        """The beginning of a message about ``key``: file, key and, where it is there, its byte."""
        at = self.offsets.get(key)
        return f"{self.path}: {key}" if at is None else f"{self.path}: {key} at byte {at:,}"


class _Cursor:
    """Reads forward through bytes that may lie about their lengths."""

    def __init__(self, data: Bytes, path: Path) -> None:
        self.data = data.data[:_MAX_HEADER]
        self.path = path
        self.at = 0
        self.items = 0

    def error(self, what: str, at: int, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {what} at byte {at:,} {problem}.")

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int, what: str) -> memoryview:
        if size > self.left():
            raise self.error(
                what,
                self.at,
                f"needs {size:,} bytes and {self.left():,} are left; the file is damaged or incomplete, so fetch it "
                "again",
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), "little")

    def count(self, what: str, least_bytes: int, most: int | None = None) -> int:
        """A number of things, each of which takes at least ``least_bytes`` of what is left; ``most`` of them in all."""
        start = self.at
        count = self.u64(what)
        if count * least_bytes > self.left():
            raise self.error(
                what, start, f"says {count:,}, and {self.left():,} bytes are left for them; the file is damaged"
            )
        if most is not None:
            self.items += count
            if count > most or self.items > _MAX_ITEMS:
                raise self.error(what, start, f"says {count:,}, more than any model has")
        return count

    def text(self, what: str, most: int = _MAX_HEADER) -> str:
        start = self.at
        length = self.count(what, 1)
        if length > most:
            raise self.error(what, start, f"has {length:,} bytes; at most {most:,} are sensible")
        try:
            return str(self.take(length, what), "utf-8")
        except UnicodeDecodeError:
            raise self.error(what, start, "is not UTF-8 text") from None

    def texts(self, what: str) -> list[str]:
        """An array of strings. This is where the time of opening goes, hence the plain loop."""
        start = self.at
        count = self.count(f"the length of {what}", 8, _MAX_ITEMS)
        data, end, length_at = self.data, len(self.data), _LENGTH.unpack_from
        at = self.at
        result: list[str] = []
        try:
            for _ in range(count):
                begin = at + 8
                at = begin + length_at(data, at)[0]
                if at > end:
                    raise self.error(f"element {len(result):,} of {what}", begin - 8, "does not fit into the file")
                result.append(str(data[begin:at], "utf-8"))
        except UnicodeDecodeError:
            raise self.error(f"element {len(result):,} of {what}", begin - 8, "is not UTF-8 text") from None
        except struct.error:
            raise self.error(what, start, f"ends after {len(result):,} of {count:,} elements") from None
        self.at = at
        return result

    def value(self, what: str, depth: int = 0) -> Any:
        """A value with its type before it: a Python scalar or string, a numpy array or a list."""
        start = self.at
        kind = self.u32(f"the type of {what}")
        if kind in SCALARS:
            return self._numbers(kind, 1, what)[0].item()
        if kind == STRING:
            return self.text(what)
        if kind == ARRAY:
            return self._array(what, depth)
        raise self.error(what, start, f"has the value type {kind:,}, which does not exist")

    def _array(self, what: str, depth: int) -> Any:
        start = self.at
        kind = self.u32(f"the element type of {what}")
        if kind in SCALARS:
            count = self.count(f"the length of {what}", SCALARS[kind].itemsize)
            return self._numbers(kind, count, what)
        if kind == STRING:
            return self.texts(what)
        if kind != ARRAY:
            raise self.error(what, start, f"has elements of type {kind:,}, which does not exist")
        if depth == _MAX_DEPTH:
            raise self.error(what, start, f"has arrays inside arrays, more than {_MAX_DEPTH} deep")
        count = self.count(f"the length of {what}", 12, _MAX_ITEMS)
        return [self._array(what, depth + 1) for _ in range(count)]

    def _numbers(self, kind: int, count: int, what: str) -> Any:
        start, dtype = self.at, SCALARS[kind]
        raw = self.take(count * dtype.itemsize, what)
        if kind == BOOL and count and np.frombuffer(raw, np.uint8).max() > 1:
            raise self.error(what, start, "holds a truth value that is neither 0 nor 1")
        return np.frombuffer(raw, dtype=dtype)


def _check_version(cursor: _Cursor) -> None:
    if cursor.take(4, "the magic number") != MAGIC:
        raise CheckpointError(f"{cursor.path} does not begin with GGUF at byte 0; it is another kind of file.")
    version = cursor.u32("the version")
    if version in (2, 3):
        return
    if version == 1:
        raise UnsupportedError(
            f"{cursor.path} is GGUF version 1 (at byte 4), which was replaced in 2023; Empu reads versions 2 and 3, so "
            "fetch a newer conversion."
        )
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, 2, 3):
        raise UnsupportedError(
            f"{cursor.path} is a big-endian GGUF file (version at byte 4); Empu reads little-endian ones."
        )
    raise UnsupportedError(f"{cursor.path} is GGUF version {version:,} (at byte 4); Empu reads versions 2 and 3.")


def _key_values(cursor: _Cursor, count: int) -> tuple[dict[str, Any], dict[str, int]]:
    metadata: dict[str, Any] = {}
    offsets: dict[str, int] = {}
    for number in range(count):
        start = cursor.at
        key = cursor.text(f"key {number:,}", _MAX_KEY)
        if key in metadata:
            raise cursor.error(f"the key {shown(key)}", start, f"stands at byte {offsets[key]:,} already")
        offsets[key] = start
        metadata[key] = cursor.value(shown(key))
    return metadata, offsets


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the tensor table, as it stands."""

    at: int
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    def error(self, path: Path, problem: str, kind: type[CheckpointError] = CheckpointError) -> CheckpointError:
        return kind(f"{path}: tensor {shown(self.name)} (listed at byte {self.at:,}) {problem}.")


def _table_row(cursor: _Cursor) -> _Row:
    start = cursor.at
    name = cursor.text("a tensor's name", _MAX_NAME)
    if not name or not name.isprintable():
        raise cursor.error(f"the tensor name {shown(name)}", start, "is empty or holds control characters")
    what = f"the listing of tensor {shown(name)}"
    n_dims = cursor.u32(what)
    if not 1 <= n_dims <= 4:
        raise cursor.error(what, start, f"says {n_dims:,} dimensions; expected 1 to 4")
    dims = struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims, what))  # the fastest first
    return _Row(start, name, tuple(reversed(dims)), cursor.u32(what), cursor.u64(what))


def _places(path: Path, table: list[_Row], begin: int, size: int, alignment: int) -> dict[str, Place]:
    """Where the tensors lie: inside the file, aligned, none over another, and nothing unaccounted for."""
    places: dict[str, Place] = {}
    for row in table:
        if row.name in places:
            raise row.error(path, "is listed twice")
        places[row.name] = _place(path, row, begin, size, alignment)
    end, before = begin, "the header"
    for name, place in sorted(places.items(), key=lambda item: item[1].start):
        if place.start < end:
            raise CheckpointError(f"{path}: tensor {shown(name)} at byte {place.start:,} overlaps {before}.")
        if place.start - end >= alignment:
            raise CheckpointError(
                f"{path}: {place.start - end:,} bytes from byte {end:,} to tensor {shown(name)} belong to nothing; the "
                "file is damaged, so fetch it again."
            )
        end, before = place.end, f"tensor {shown(name)}"
    if size - end >= alignment:
        raise CheckpointError(
            f"{path}: {size - end:,} bytes at its end, from byte {end:,}, belong to nothing; the file was not written "
            "or fetched in one piece, so fetch it again."
        )
    return places


def _place(path: Path, row: _Row, begin: int, size: int, alignment: int) -> Place:
    if row.kind not in BY_GGML_ID:
        known = GGML_NAMES.get(row.kind, f"number {row.kind:,}")
        raise row.error(
            path, f"has the type {known}, which Empu does not read; take another quantisation", UnsupportedError
        )
    type_ = BY_GGML_ID[row.kind]
    values = math.prod(row.shape)
    if not 0 < values < 1 << 63:
        raise row.error(path, f"has the shape {row.shape}, which no tensor has")
    if row.shape[-1] % type_.block_values:
        raise row.error(
            path, f"has rows of {row.shape[-1]:,} values, no multiple of {type_.block_values} as {type_.name} needs"
        )
    if row.offset % alignment:
        raise row.error(path, f"begins at offset {row.offset:,}, no multiple of the alignment {alignment:,}")
    start = begin + row.offset
    end = start + values // type_.block_values * type_.block_bytes
    if end > size:
        raise row.error(
            path,
            f"ends at byte {end:,} and the file has {size:,}; its download was probably cut off, so fetch it again",
        )
    return Place(row.shape, type_, start, end)
