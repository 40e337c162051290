"""Durable file writes: a file or folder appears whole or not at all, and survives a crash afterwards.

Data is written under a temporary name, flushed to disk, then renamed. The folder is flushed too, since a rename is
durable only then. Failed writes become error messages that say what to do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from empu.errors import CheckpointError, EmpuError, StoreError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_PERMITTED = {errno.EROFS, errno.EACCES, errno.EPERM}
_CHOOSE_FOLDER = "choose a folder"


def write_error(
    error: OSError,
    path: Path,
    error_type: type[EmpuError] = StoreError,
    alternative: str = "set EMPU_HOME to another folder",
) -> EmpuError:
    """Return the error for a failed write to ``path``. ``alternative`` says how to write somewhere else."""
    if error.errno in _DISK_FULL:
        return error_type(
            f"There is no room left while writing {path} ({error.strerror}); nothing was added: free some space, or "
            f"{alternative} on a larger disk."
        )
    if error.errno in _NOT_PERMITTED:
        return error_type(
            f"{path} cannot be written ({error.strerror}); give yourself the right to write there, or {alternative}."
        )
    return error_type(f"{path} cannot be written ({error.strerror or error}); check the disk and try again.")


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Convert an ``OSError`` of the block into a :class:`~empu.errors.StoreError` about writing to ``path``.

    Keep reads of other files outside the block.
    """
    try:
        yield
    except OSError as error:
        raise write_error(error, path) from error


def fsync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that files created or renamed in it survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to disk."""
    for root, _, files in os.walk(folder):
        for name in files:
            with (Path(root) / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(root))


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``. After a crash the file holds either the new or the old content."""
    with _temporary_file(path) as (file, temporary):
        file.write(data)
        _flush(file)
        temporary.replace(path)
    fsync_folder(path.parent)


def create_exclusively(path: Path, data: bytes) -> bool:
    """Create ``path`` with ``data``, whole or not at all. Return ``False`` if ``path`` exists already."""
    with _temporary_file(path) as (file, temporary):
        file.write(data)
        _flush(file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    fsync_folder(path.parent)
    return True


@contextmanager
def atomic_file(path: Path, *, flush: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file for writing that replaces ``path`` when the block succeeds and is deleted otherwise.

    ``flush=False`` skips the flush to disk. It is faster, but a crash of the machine may leave wrong bytes under
    ``path``, so the reader has to verify them. Raises :class:`CheckpointError` when writing fails, for example because
    the disk is full.
    """
    try:
        with _temporary_file(path) as (file, temporary):
            yield file
            if flush:
                _flush(file)
            file.flush()
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        if flush:
            fsync_folder(path.parent)
    except OSError as error:
        raise write_error(error, path, CheckpointError, _CHOOSE_FOLDER) from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder that becomes ``path`` when the block succeeds and is deleted otherwise.

    Raises :class:`CheckpointError` when ``path`` exists and is not an empty folder, or cannot be written.
    """
    try:
        if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
            raise CheckpointError(f"{path} exists already; name another folder, or remove it first.")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            fsync_folder(temporary)
            temporary.chmod(0o777 & ~_umask())
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(path.parent)
    except OSError as error:
        raise write_error(error, path, CheckpointError, _CHOOSE_FOLDER) from error


@contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a temporary file in the folder of ``path``. It is deleted afterwards unless it was renamed."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _umask() -> int:
    """Return the process umask. Python can only read it by setting it, so it is restored at once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def remove_tree(folder: Path) -> None:
    """Delete a folder and its content, if it exists."""
    if folder.exists():
        with explain_write_errors(folder):
            shutil.rmtree(folder)


@contextmanager
def folder_lock(folder: Path, *, timeout_s: float, busy_message: str) -> Iterator[None]:
    """Hold an exclusive lock on ``folder`` (``flock``, which ends with the process that holds it).

    Raises :class:`~empu.errors.StoreError` with ``busy_message`` when another process holds the lock for longer than
    ``timeout_s``.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise StoreError(busy_message) from None  # the holder finished and removed the folder
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreError(busy_message) from None
                time.sleep(0.05)
        if not (folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat())):
            raise StoreError(busy_message)  # the holder removed the folder between our open and our lock
        yield
    finally:
        os.close(descriptor)
