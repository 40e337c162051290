"""The native test program with the address and undefined-behaviour sanitizers; `make sanitize` runs it at length."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"


@pytest.mark.slow
def test_random_calls_give_the_same_bits_under_sanitizers(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not installed")
    options = ["-DEMPU_TESTS=ON", "-DEMPU_SANITIZE=address"]
    subprocess.run(["cmake", "-S", str(NATIVE), "-B", str(tmp_path), *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(tmp_path), "--parallel", "2"], check=True, capture_output=True)
    done = subprocess.run(
        [str(tmp_path / "empu_native_tests"), "10", "2000", "5"],
        check=False,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
