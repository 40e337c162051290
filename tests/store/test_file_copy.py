"""Copies are exact and hashed, and a full disk raises an error with advice."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

from empu.store.file_copy import copy_file


def test_copy_is_exact_and_hashed(tmp_path: Path) -> None:
    data = os.urandom(9_000_001)
    (tmp_path / "source").write_bytes(data)
    counts: list[int] = []
    digest = copy_file(tmp_path / "source", tmp_path / "copy", counts.append)
    assert digest == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "copy").read_bytes() == data
    assert sum(counts) == len(data)


def test_full_disk_raises_store_error(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(200_000))
    code = (
        "import resource, sys, pathlib; from empu.store.file_copy import copy_file\n"
        "from empu.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: copy_file(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), lambda n: None)\n"
        "except StoreError as error: print(error)\n"
    )
    paths = [str(tmp_path / "source"), str(tmp_path / "copy")]
    completed = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert "There is no room left while writing" in completed.stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
