"""Writing that survives a crash, and the sentences for when it cannot be done.

A file appears whole or not at all: written under a temporary name, flushed to the disk, then renamed. Folders take
part, since a rename is durable only when its folder is flushed as well.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from empu.errors import StoreError
from empu.ledger.hashing import CHUNK_BYTES, OnBytes, hash_file

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_FICLONE = 0x40049409
"""Linux: make one file share another's blocks (btrfs, XFS); other systems and file systems refuse it at once."""


def write_error(error: OSError, where: Path) -> StoreError:
    """The sentence for a failed write under ``where``."""
    if error.errno in _FULL:
        return StoreError(
            f"There is no room left while writing {where} ({error.strerror}); nothing was added: free some space, or "
            "set EMPU_HOME to a folder on a larger disk."
        )
    if error.errno in _FORBIDDEN:
        return StoreError(
            f"{where} cannot be written ({error.strerror}); give yourself the right to write there, or set EMPU_HOME "
            "to another folder."
        )
    return StoreError(f"{where} cannot be written ({error.strerror or error}); check the disk and try again.")


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turns the ``OSError`` of a write below ``where`` into its sentence. Reads of other places stay outside."""
    try:
        yield
    except OSError as error:
        raise write_error(error, where) from error


def flush_folder(folder: Path) -> None:
    """Make renames and new names inside ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """Make every file and folder below ``folder`` durable."""
    for root, _, files in os.walk(folder):
        for name in files:
            with (Path(root) / name).open("rb") as file:
                os.fsync(file.fileno())
        flush_folder(Path(root))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace or create ``path``: afterwards it holds ``data`` or, after a crash, what it held before."""
    with _flushed_beside(path, data) as temporary:
        temporary.replace(path)
    flush_folder(path.parent)


def create_once(path: Path, data: bytes) -> bool:
    """Create ``path`` holding ``data``, whole or not at all; ``False`` when the name is taken already."""
    with _flushed_beside(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    flush_folder(path.parent)
    return True


@contextmanager
def _flushed_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file beside ``path`` whose bytes are on the disk; gone afterwards, unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


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


def remove_tree(folder: Path) -> None:
    """Delete a folder with everything in it; it is fine if it is gone already."""
    if folder.exists():
        with writing(folder):
            shutil.rmtree(folder)


@contextmanager
def folder_lock(folder: Path, *, wait_s: float, busy: str) -> Iterator[None]:
    """Hold ``folder`` against other processes (``flock``, which ends with the process that holds it).

    Raises :class:`~empu.errors.StoreError` saying ``busy`` when another process holds it for longer than ``wait_s``.
    """
    handle = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreError(busy) from None
                time.sleep(0.05)
        if not (folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())):
            raise StoreError(busy)  # its holder finished and removed it between our two steps
        yield
    finally:
        os.close(handle)
