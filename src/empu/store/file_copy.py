"""Copy a file into the store and hash it in the same pass."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path
from typing import BinaryIO

from empu.errors import StoreError
from empu.ledger.hashing import CHUNK_BYTES, OnBytes, hash_file
from empu.system.durable import explain_write_errors

_FICLONE = 0x40049409
"""Linux ioctl that makes two files share their blocks (btrfs, XFS). Other systems and file systems reject it."""


def copy_file(source: Path, target: Path, on_bytes: OnBytes) -> str:
    """Copy a file and return the SHA-256 of the copy. Shares blocks if the file system supports it."""
    try:
        reader = source.open("rb")
    except OSError as error:
        raise StoreError(
            f"{source} cannot be read ({error.strerror}); check that it exists and that you may read it."
        ) from error
    with reader:
        if _share_blocks(reader, target):
            return hash_file(target, on_bytes)
        digest = hashlib.sha256()
        with explain_write_errors(target), target.open("wb") as writer:
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
    """Create ``target`` with the blocks of the open file. Return whether the file system supports it."""
    with explain_write_errors(target), target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:  # another system, another file system, or two file systems
            return False
    return True
