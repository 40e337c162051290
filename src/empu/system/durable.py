"""Writing that survives a crash, and the sentences for when it cannot be done.

A file appears whole or not at all: written under a temporary name, flushed to the disk, then renamed. Folders take
part, since a rename is durable only when its folder is flushed as well.
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

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ELSEWHERE = "choose a place"
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


def write_error(
    error: OSError, where: Path, kind: type[EmpuError] = StoreError, elsewhere: str = "set EMPU_HOME to another folder"
) -> EmpuError:
    """The sentence for a failed write under ``where``; ``elsewhere`` says how to write to another place."""
    if error.errno in _FULL:
        return kind(
            f"There is no room left while writing {where} ({error.strerror}); nothing was added: free some space, or "
            f"{elsewhere} on a larger disk."
        )
    if error.errno in _FORBIDDEN:
        return kind(
            f"{where} cannot be written ({error.strerror}); give yourself the right to write there, or {elsewhere}."
        )
    return kind(f"{where} cannot be written ({error.strerror or error}); check the disk and try again.")


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
    with _beside(path) as (file, temporary):
        file.write(data)
        _flush(file)
        temporary.replace(path)
    flush_folder(path.parent)


def create_once(path: Path, data: bytes) -> bool:
    """Create ``path`` holding ``data``, whole or not at all; ``False`` when the name is taken already."""
    with _beside(path) as (file, temporary):
        file.write(data)
        _flush(file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    flush_folder(path.parent)
    return True


@contextmanager
def replacing(path: Path, *, flush: bool = True) -> Iterator[BinaryIO]:
    """A file open for writing that takes the name ``path`` once the block ends well, and vanishes otherwise.

    Without ``flush`` the disk gets it when the system likes: quick, and after a crash of the machine its bytes may be
    wrong, so only for what is checked before it is believed. Raises :class:`CheckpointError` when it cannot be written,
    a full disk included.
    """
    try:
        with _beside(path) as (file, temporary):
            yield file
            if flush:
                _flush(file)
            file.flush()
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        if flush:
            flush_folder(path.parent)
    except OSError as error:
        raise write_error(error, path, CheckpointError, _ELSEWHERE) from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name ``path`` once the block ends well, and vanishes otherwise.

    Raises :class:`CheckpointError` when ``path`` holds something already or cannot be written.
    """
    try:
        if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
            raise CheckpointError(f"{path} exists already; name another folder, or remove it first.")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            flush_folder(temporary)
            temporary.chmod(0o777 & ~_umask())
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise write_error(error, path, CheckpointError, _ELSEWHERE) from error


@contextmanager
def _beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A temporary file beside ``path``, open for writing; gone afterwards, unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _umask() -> int:
    """The mode bits that new files lack. Python can only tell by setting them, so they are put back at once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


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
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise StoreError(busy) from None  # its holder finished and removed it
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
