"""Copying a file into the store, hashed on its way."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path
from typing import BinaryIO

from empu.errors import StoreError
from empu.ledger.hashing import CHUNK_BYTES, OnBytes, hash_file
from empu.system.durable import writing

_FICLONE = 0x40049409
"""Linux: make one file share another's blocks (btrfs, XFS); other systems and file systems refuse it at once."""


def copy_file(source: Path, target: Path, on_bytes: OnBytes) -> str:
    """Copy a file and return the SHA-256 of what was written. Shares the blocks where the file system can."""
    try:
        reader = source.open("rb")
    except OSError as error:
        raise StoreError(f"{source} cannot be read ({error.strerror}); check that it exists and is yours.") from error
    with reader:
        if _share_blocks(reader, target):
            return hash_file(target, on_bytes)
        digest = hashlib.sha256()
        with writing(target), target.open("wb") as writer:
            while chunk := _read(reader, source):
                digest.update(chunk)
                writer.write(chunk)
                on_bytes(len(chunk))
        return digest.hexdigest()


def _read(reader: BinaryIO, source: Path) -> bytes:
    try:
        return reader.read(CHUNK_BYTES)
    except OSError as error:
        raise StoreError(f"{source} cannot be read to its end ({error.strerror}); check the disk.") from error


def _share_blocks(reader: BinaryIO, target: Path) -> bool:
    with writing(target), target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:  # not Linux, not such a file system, or two of them: copy the bytes
            return False
    return True
