"""The index of a stored zip archive in a memory-mapped file: member name -> byte range. Nothing is unpacked.

It supports the archives that ``torch.save`` writes: every member stored without compression. The layout is PKWARE's
APPNOTE 6.3 (sections 4.3.7 local header, 4.3.12 central directory, 4.3.14 zip64 end, 4.3.16 end). Everything that could
make two readers see different archives is refused: comments, gaps in the directory, duplicate names, overlapping
members, and a local header that contradicts the directory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from empu.errors import CheckpointError
from empu.system.files import ByteArray
from empu.system.quoting import quoted

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")

_FULL16 = 0xFFFF
_FULL32 = 0xFFFF_FFFF
_ENCRYPTED = 0x2041
"""Bit 0, strong encryption (6) and a masked directory (13) of the general purpose flags."""

DIRECTORY_LIMIT = 64 << 20
MEMBER_LIMIT = 1 << 17


@dataclass(frozen=True, slots=True)
class Member:
    """One stored member. Its bytes are ``mapped[start : start + size]``."""

    name: str
    start: int
    size: int


def read_zip(mapped: ByteArray, where: str) -> dict[str, Member]:
    """Return every member by name. Raises :class:`CheckpointError` with the byte offset of what is wrong."""
    count, directory, directory_end = _find_directory(mapped, where)
    members: dict[str, Member] = {}
    headers: list[tuple[int, int]] = []
    position = directory
    for _ in range(count):
        name, size, header, position = _read_entry(mapped, position, directory_end, where)
        if name in members:
            raise CheckpointError(f"{where}: two members are called {quoted(name)}; the archive is ambiguous.")
        start = _check_local(mapped, header, name, size, directory, where)
        members[name] = Member(name, start, size)
        headers.append((header, start + size))
    if position != directory_end:
        raise CheckpointError(f"{where}: the zip directory ends at byte {position:,}, expected {directory_end:,}.")
    _check_disjoint(headers, where)
    return members


def _find_directory(mapped: ByteArray, where: str) -> tuple[int, int, int]:
    """Return (number of members, offset of the directory, offset of its end)."""
    end = len(mapped) - _END.size
    if end < 0 or bytes(mapped[end : end + 4]) != b"PK\5\6":
        raise CheckpointError(
            f"{where}: no zip archive ends at byte {len(mapped):,}; the file is cut off or has something after it."
        )
    _, disk, first_disk, entries_here, count, size, start, comment = _END.unpack(mapped[end:].tobytes())
    bound = end
    if _FULL16 in (disk, entries_here, count) or _FULL32 in (size, start) or _has_locator(mapped, end):
        bound, disk, first_disk, entries_here, count, size, start = _read_end64(mapped, end, where)
    if disk or first_disk or entries_here != count or comment:
        raise CheckpointError(f"{where}: the zip archive has several parts or a comment (byte {end:,}).")
    if count > MEMBER_LIMIT or size > DIRECTORY_LIMIT:
        raise CheckpointError(f"{where}: {count:,} members in a zip directory of {size:,} bytes; no model has so many.")
    if start + size != bound:
        raise CheckpointError(
            f"{where}: the zip directory claims bytes {start:,} to {start + size:,}; it must end at {bound:,}."
        )
    return count, start, bound


def _has_locator(mapped: ByteArray, end: int) -> bool:
    at = end - _LOCATOR.size
    return at >= 0 and bytes(mapped[at : at + 4]) == b"PK\6\7"


def _read_end64(mapped: ByteArray, end: int, where: str) -> tuple[int, int, int, int, int, int, int]:
    at = end - _LOCATOR.size
    if not _has_locator(mapped, end):
        raise CheckpointError(f"{where}: the zip end at byte {end:,} refers to a zip64 record, which is missing.")
    _, end64_disk, end64, disks = _LOCATOR.unpack(mapped[at:end].tobytes())
    if end64_disk or disks > 1 or end64 + _END64.size != at or bytes(mapped[end64 : end64 + 4]) != b"PK\6\6":
        raise CheckpointError(
            f"{where}: the zip64 locator at byte {at:,} points to byte {end64:,}, where there is no record."
        )
    _, length, _, _, disk, first_disk, entries_here, count, size, start = _END64.unpack(mapped[end64:at].tobytes())
    if length + 12 != _END64.size:
        raise CheckpointError(f"{where}: the zip64 record at byte {end64:,} says that it has {length:,} bytes.")
    return end64, disk, first_disk, entries_here, count, size, start


def _read_entry(mapped: ByteArray, position: int, stop: int, where: str) -> tuple[str, int, int, int]:
    """Return (name, size, offset of the local header, position after this entry)."""
    fixed_end = position + _CENTRAL.size
    if fixed_end > stop or bytes(mapped[position : position + 4]) != b"PK\1\2":
        raise CheckpointError(f"{where}: no zip directory entry at byte {position:,}.")
    fields = _CENTRAL.unpack(mapped[position:fixed_end].tobytes())
    flags, method, packed, size = fields[3], fields[4], fields[8], fields[9]
    name_bytes, extra_bytes, comment_bytes, disk, header = fields[10], fields[11], fields[12], fields[13], fields[16]
    after = fixed_end + name_bytes + extra_bytes + comment_bytes
    if after > stop:
        raise CheckpointError(f"{where}: the zip directory entry at byte {position:,} runs past the directory.")
    name = _decode_name(mapped[fixed_end : fixed_end + name_bytes].tobytes(), position, where)
    where = f"{where}: member {quoted(name)}, directory entry at byte {position:,}"
    extra = mapped[fixed_end + name_bytes : fixed_end + name_bytes + extra_bytes].tobytes()
    size, packed, header = _apply_zip64(size, packed, header, extra, where)
    if method or flags & _ENCRYPTED:
        raise CheckpointError(f"{where}, is compressed or encrypted; torch.save stores members as they are.")
    if packed != size:
        raise CheckpointError(f"{where}, has two sizes ({packed:,} and {size:,}) although it is stored.")
    if comment_bytes or disk not in (0, _FULL16):
        raise CheckpointError(f"{where}, has a comment or lies in another part.")
    return name, size, header, after


def _decode_name(raw: bytes, position: int, where: str) -> str:
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        name = ""
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise CheckpointError(
            f"{where}: the member name {raw[:80]!r} at byte {position:,} is not a plain relative path."
        )
    return name


def _apply_zip64(size: int, packed: int, header: int, extra: bytes, where: str) -> tuple[int, int, int]:
    """Replace the numbers that refer to the zip64 field by its values (APPNOTE 4.5.3)."""
    values = iter(_zip64_numbers(extra, where))
    try:
        size = next(values) if size == _FULL32 else size
        packed = next(values) if packed == _FULL32 else packed
        header = next(values) if header == _FULL32 else header
    except StopIteration:
        raise CheckpointError(f"{where}, lacks its zip64 sizes.") from None
    if next(values, None) is not None:
        raise CheckpointError(f"{where}, has unused zip64 sizes.")
    return size, packed, header


def _zip64_numbers(extra: bytes, where: str) -> tuple[int, ...]:
    numbers: tuple[int, ...] | None = None
    position = 0
    while position < len(extra):
        kind, length = struct.unpack_from("<2H", extra, position) if position + 4 <= len(extra) else (0, _FULL16)
        position += 4
        if position + length > len(extra):
            raise CheckpointError(f"{where}, has a damaged extra field.")
        if kind == 1:
            if numbers is not None or length % 8:
                raise CheckpointError(f"{where}, has a damaged zip64 field.")
            numbers = struct.unpack_from(f"<{length // 8}Q", extra, position)
        position += length
    return numbers or ()


def _check_local(mapped: ByteArray, header: int, name: str, size: int, directory: int, where: str) -> int:
    """Return the offset of the member's data after comparing its local header with the directory."""
    where = f"{where}: member {quoted(name)}, local header at byte {header:,}"
    if header + _LOCAL.size > directory:
        raise CheckpointError(f"{where}, lies outside the {directory:,} bytes of members.")
    fields = _LOCAL.unpack(mapped[header : header + _LOCAL.size].tobytes())
    signature, flags, method, name_bytes, extra_bytes = fields[0], fields[2], fields[3], fields[9], fields[10]
    name_at = header + _LOCAL.size
    start: int = name_at + name_bytes + extra_bytes
    if signature != b"PK\3\4" or method or flags & _ENCRYPTED:
        raise CheckpointError(f"{where}, is not the header of a stored member.")
    if mapped[name_at : name_at + name_bytes].tobytes() != name.encode("ascii"):
        raise CheckpointError(f"{where}, has another name than the directory.")
    if start + size > directory:
        raise CheckpointError(f"{where}, has {size:,} bytes of data, which run past byte {directory:,}.")
    return start


def _check_disjoint(ranges: list[tuple[int, int]], where: str) -> None:
    position = 0
    for header, end in sorted(ranges):
        if header < position:
            raise CheckpointError(f"{where}: the member at byte {header:,} overlaps the one before it.")
        position = end
