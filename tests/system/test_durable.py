"""Durable writes: files appear whole or not at all, and failures are explained."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from empu.errors import StoreError
from empu.system import durable


def test_an_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_atomically(path, b"one")
    durable.write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_atomic_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        durable.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_create_exclusively_keeps_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "name"
    assert durable.create_exclusively(path, b"first")
    assert not durable.create_exclusively(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error_number", "message"),
    [
        (errno.ENOSPC, "no room left"),
        (errno.EDQUOT, "no room left"),
        (errno.EROFS, "give yourself the right"),
        (errno.EACCES, "give yourself the right"),
        (errno.EIO, "check the disk"),
    ],
)
def test_each_failure_is_explained(error_number: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=message) as caught, durable.explain_write_errors(tmp_path):
        raise OSError(error_number, os.strerror(error_number))
    assert str(tmp_path) in str(caught.value)


def test_a_lock_excludes_others_until_its_holder_ends(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from empu.system import durable\n"
        "with durable.folder_lock(pathlib.Path(sys.argv[1]), timeout_s=5, busy_message='busy'):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="somebody else"), _lock(tmp_path, 0.1):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with _lock(tmp_path, 5.0):
            pass
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def _lock(folder: Path, timeout_s: float) -> AbstractContextManager[None]:
    return durable.folder_lock(folder, timeout_s=timeout_s, busy_message="somebody else")
