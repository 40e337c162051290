"""The GGUF container, versions 2 and 3: key/values and the tensor table, checked against the size of the file.

Layout after ``docs/gguf.md`` in the ggml repository. Knows nothing of models. No number in a file is trusted: a count
is compared with the bytes that its elements need at least, before anything is allocated. So the memory for a file is
bounded by its size and by the limits below.

Strings must be UTF-8, as the format requires. Replacing invalid bytes would silently change tokens; tokens of single
bytes have their own notation (``<0x0A>``, ``Ġ``).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from empu.checkpoint.block_types import BLOCK_TYPES_BY_GGML_ID, UNREAD_GGML_TYPES, BlockType
from empu.errors import CheckpointError, UnsupportedError
from empu.system.files import ByteArray, map_file
from empu.system.quoting import quoted

MAGIC = b"GGUF"
ALIGNMENT = 32
"""Alignment of tensor data in bytes, unless ``general.alignment`` differs."""

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
"""Value type in the file -> numpy type of one value."""

BOOL, STRING, ARRAY = 7, 8, 9

_MAX_DEPTH = 4
"""Nesting of arrays; no known file has nested arrays."""
_MAX_HEADER = 1 << 28
"""Bytes before the tensor data. 256,000 tokens with their merges need a tenth of this."""
_MAX_ITEMS = 1 << 22
"""Keys, strings and nested arrays together. The largest vocabularies have about 600,000."""
_MAX_TENSORS = 1 << 16
_MAX_KEY = 1 << 16
_MAX_NAME = 256
"""Bytes of a key, as in the format, and of a tensor name, for which the format allows 64 and some writers use more."""
_LENGTH = struct.Struct("<Q")


CUT_OFF = "the file is damaged or incomplete, so fetch it again"
"""What to do where the header ends too early."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of the file: its row-major shape, its type, and its data at bytes ``start`` to ``end``."""

    shape: tuple[int, ...]
    type: BlockType
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """An opened file. Every tensor is known to lie inside it."""

    path: Path
    data: ByteArray
    metadata: Mapping[str, Any]
    """Values by key. Arrays of numbers are numpy arrays, arrays of strings are lists."""
    offsets: Mapping[str, int]
    """Byte offset of each key, for error messages."""
    tensors: Mapping[str, GgufTensor]
    """Tensors by their GGUF names, in the order of the tensor table."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse the header of a file.

        Raises :class:`CheckpointError` for a damaged file, naming the key or tensor and the byte offset, and
        :class:`UnsupportedError` for other versions and tensor types.
        """
        data = map_file(path)
        cursor = _Cursor(data, path)
        _check_version(cursor)
        n_tensors = cursor.count("the number of tensors", 24, _MAX_TENSORS)
        n_keys = cursor.count("the number of keys", 13, _MAX_ITEMS)
        metadata, offsets = _read_key_values(cursor, n_keys)
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            found = f"{alignment:,}" if type(alignment) is int else "not a whole number"
            raise CheckpointError(
                f"{path}: general.alignment at byte {offsets['general.alignment']:,} is {found}; expected a power of "
                "two, at least 8."
            )
        infos = [_read_tensor_info(cursor) for _ in range(n_tensors)]
        data_start = -(-cursor.position // alignment) * alignment
        tensors = _locate_tensors(path, infos, data_start, len(data), alignment)
        return cls(path, data, metadata, offsets, tensors)

    def where(self, key: str) -> str:
        """Return the beginning of an error message about ``key``: file, key and, if present, its byte offset."""
        offset = self.offsets.get(key)
        return f"{self.path}: {key}" if offset is None else f"{self.path}: {key} at byte {offset:,}"


class _Cursor:
    """Reads forward through the header, checking every length against the bytes that remain."""

    def __init__(self, data: ByteArray, path: Path) -> None:
        self.data = data.data[:_MAX_HEADER]
        self.path = path
        self.position = 0
        self.n_items = 0

    def error(self, what: str, offset: int, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {what} at byte {offset:,} {problem}.")

    def remaining(self) -> int:
        return len(self.data) - self.position

    def take(self, size: int, what: str) -> memoryview:
        if size > self.remaining():
            raise self.error(
                what,
                self.position,
                f"needs {size:,} bytes and {self.remaining():,} are left; {CUT_OFF}",
            )
        self.position += size
        return self.data[self.position - size : self.position]

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), "little")

    def count(self, what: str, min_bytes: int, limit: int | None = None) -> int:
        """Read a number of items, each of which needs at least ``min_bytes`` of the remaining bytes."""
        start = self.position
        count = self.u64(what)
        if count * min_bytes > self.remaining():
            raise self.error(
                what, start, f"says {count:,}, and {self.remaining():,} bytes are left for them; {CUT_OFF}"
            )
        if limit is not None:
            self.n_items += count
            if count > limit or self.n_items > _MAX_ITEMS:
                raise self.error(what, start, f"says {count:,}, more than any model has")
        return count

    def text(self, what: str, max_bytes: int = _MAX_HEADER) -> str:
        start = self.position
        length = self.count(what, 1)
        if length > max_bytes:
            raise self.error(what, start, f"has {length:,} bytes; at most {max_bytes:,} are allowed")
        try:
            return str(self.take(length, what), "utf-8")
        except UnicodeDecodeError:
            raise self.error(what, start, "is not UTF-8 text") from None

    def texts(self, what: str) -> list[str]:
        """Read an array of strings. Most of the opening time is spent here, hence the plain loop."""
        start = self.position
        count = self.count(f"the length of {what}", 8, _MAX_ITEMS)
        data, end, read_length = self.data, len(self.data), _LENGTH.unpack_from
        position = self.position
        result: list[str] = []
        try:
            for _ in range(count):
                begin = position + 8
                position = begin + read_length(data, position)[0]
                if position > end:
                    raise self.error(
                        f"element {len(result):,} of {what}", begin - 8, f"does not fit into the file; {CUT_OFF}"
                    )
                result.append(str(data[begin:position], "utf-8"))
        except UnicodeDecodeError:
            raise self.error(f"element {len(result):,} of {what}", begin - 8, "is not UTF-8 text") from None
        except struct.error:
            raise self.error(what, start, f"ends after {len(result):,} of {count:,} elements; {CUT_OFF}") from None
        self.position = position
        return result

    def value(self, what: str, depth: int = 0) -> Any:
        """Read a value and the type before it. Returns a Python scalar, a string, a numpy array or a list."""
        start = self.position
        type_id = self.u32(f"the type of {what}")
        if type_id in SCALARS:
            return self._numbers(type_id, 1, what)[0].item()
        if type_id == STRING:
            return self.text(what)
        if type_id == ARRAY:
            return self._array(what, depth)
        raise self.error(what, start, f"has the value type {type_id:,}, which does not exist")

    def _array(self, what: str, depth: int) -> Any:
        start = self.position
        type_id = self.u32(f"the element type of {what}")
        if type_id in SCALARS:
            count = self.count(f"the length of {what}", SCALARS[type_id].itemsize)
            return self._numbers(type_id, count, what)
        if type_id == STRING:
            return self.texts(what)
        if type_id != ARRAY:
            raise self.error(what, start, f"has elements of type {type_id:,}, which does not exist")
        if depth == _MAX_DEPTH:
            raise self.error(what, start, f"has arrays inside arrays, more than {_MAX_DEPTH} deep")
        count = self.count(f"the length of {what}", 12, _MAX_ITEMS)
        return [self._array(what, depth + 1) for _ in range(count)]

    def _numbers(self, type_id: int, count: int, what: str) -> Any:
        start, dtype = self.position, SCALARS[type_id]
        raw = self.take(count * dtype.itemsize, what)
        if type_id == BOOL and count and np.frombuffer(raw, np.uint8).max() > 1:
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


def _read_key_values(cursor: _Cursor, count: int) -> tuple[dict[str, Any], dict[str, int]]:
    metadata: dict[str, Any] = {}
    offsets: dict[str, int] = {}
    for number in range(count):
        start = cursor.position
        key = cursor.text(f"key {number:,}", _MAX_KEY)
        if key in metadata:
            raise cursor.error(f"the key {quoted(key)}", start, f"is a duplicate of the one at byte {offsets[key]:,}")
        offsets[key] = start
        metadata[key] = cursor.value(quoted(key))
    return metadata, offsets


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    """One entry of the tensor table, not yet checked."""

    listed_at: int
    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int

    def error(self, path: Path, problem: str, error_type: type[CheckpointError] = CheckpointError) -> CheckpointError:
        return error_type(f"{path}: tensor {quoted(self.name)} (listed at byte {self.listed_at:,}) {problem}.")


def _read_tensor_info(cursor: _Cursor) -> _TensorInfo:
    start = cursor.position
    name = cursor.text("a tensor's name", _MAX_NAME)
    if not name or not name.isprintable():
        raise cursor.error(f"the tensor name {quoted(name)}", start, "is empty or holds control characters")
    what = f"the table entry of tensor {quoted(name)}"
    n_dims = cursor.u32(what)
    if not 1 <= n_dims <= 4:
        raise cursor.error(what, start, f"says {n_dims:,} dimensions; expected 1 to 4")
    dims = struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims, what))  # the fastest-varying one first
    return _TensorInfo(start, name, tuple(reversed(dims)), cursor.u32(what), cursor.u64(what))


def _locate_tensors(
    path: Path, infos: list[_TensorInfo], data_start: int, file_size: int, alignment: int
) -> dict[str, GgufTensor]:
    """Return the tensors by name. They lie inside the file, aligned, without overlaps or unexplained gaps."""
    tensors: dict[str, GgufTensor] = {}
    for info in infos:
        if info.name in tensors:
            raise info.error(path, "is listed twice")
        tensors[info.name] = _locate_tensor(path, info, data_start, file_size, alignment)
    end, previous = data_start, "the header"
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        if tensor.start < end:
            raise CheckpointError(f"{path}: tensor {quoted(name)} at byte {tensor.start:,} overlaps {previous}.")
        if tensor.start - end >= alignment:
            raise CheckpointError(
                f"{path}: {tensor.start - end:,} bytes from byte {end:,} to tensor {quoted(name)} belong to nothing; "
                "the file is damaged, so fetch it again."
            )
        end, previous = tensor.end, f"tensor {quoted(name)}"
    if file_size - end >= alignment:
        raise CheckpointError(
            f"{path}: {file_size - end:,} bytes at its end, from byte {end:,}, belong to nothing; the file was not "
            "written or fetched in one piece, so fetch it again."
        )
    return tensors


def _locate_tensor(path: Path, info: _TensorInfo, data_start: int, file_size: int, alignment: int) -> GgufTensor:
    if info.type_id not in BLOCK_TYPES_BY_GGML_ID:
        name = UNREAD_GGML_TYPES.get(info.type_id, f"number {info.type_id:,}")
        raise info.error(
            path, f"has the type {name}, which Empu does not read; use another quantisation", UnsupportedError
        )
    type_ = BLOCK_TYPES_BY_GGML_ID[info.type_id]
    n_values = math.prod(info.shape)
    if not 0 < n_values < 1 << 63:
        raise info.error(path, f"has the shape {info.shape}, which no tensor has")
    if info.shape[-1] % type_.block_values:
        raise info.error(
            path,
            f"has rows of {info.shape[-1]:,} values, not a multiple of {type_.block_values} as {type_.name} needs",
        )
    if info.offset % alignment:
        raise info.error(path, f"begins at offset {info.offset:,}, not a multiple of the alignment {alignment:,}")
    start = data_start + info.offset
    end = start + n_values // type_.block_values * type_.block_bytes
    if end > file_size:
        raise info.error(
            path,
            f"ends at byte {end:,} and the file has {file_size:,}; its download was probably cut off, so fetch it "
            "again",
        )
    return GgufTensor(info.shape, type_, start, end)
