"""Writes are whole or absent, copies are true, and failures are sentences."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from empu.errors import StoreError
from empu.store import durable


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_atomically(path, b"one")
    durable.write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_atomic_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        durable.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "name"
    assert durable.create_once(path, b"first")
    assert not durable.create_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_copy_is_true_and_hashed(tmp_path: Path) -> None:
    data = os.urandom(9_000_001)
    (tmp_path / "from").write_bytes(data)
    counts: list[int] = []
    digest = durable.copy_file(tmp_path / "from", tmp_path / "to", counts.append)
    assert digest == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "to").read_bytes() == data
    assert sum(counts) == len(data)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no room left"),
        (errno.EDQUOT, "no room left"),
        (errno.EROFS, "give yourself the right"),
        (errno.EACCES, "give yourself the right"),
        (errno.EIO, "check the disk"),
    ],
)
def test_each_failure_has_its_sentence(number: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=words) as caught, durable.writing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path) in str(caught.value)


def test_a_full_disk_while_copying_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(bytes(200_000))
    code = (
        "import resource, sys, pathlib; from empu.store import durable; from empu.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: durable.copy_file(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), lambda n: None)\n"
        "except StoreError as error: print(error)\n"
    )
    paths = [str(tmp_path / "from"), str(tmp_path / "to")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert "There is no room left while writing" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_a_lock_keeps_others_out_and_ends_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from empu.store import durable\n"
        "with durable.folder_lock(pathlib.Path(sys.argv[1]), wait_s=5, busy='busy'):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="somebody else"), _locked(tmp_path, 0.1):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with _locked(tmp_path, 5.0):
            pass
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def _locked(folder: Path, wait_s: float) -> AbstractContextManager[None]:
    return durable.folder_lock(folder, wait_s=wait_s, busy="somebody else")
