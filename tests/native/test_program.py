"""The native test program, here and for other processors: with the address and undefined-behaviour sanitizers (`make
sanitize` runs it at length), and for ARM in an emulator.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"


def build(folder: Path, *options: str) -> Path:
    """The test program, built in ``folder``."""
    for program in ("cmake", "c++"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    made = ["cmake", "-S", str(NATIVE), "-B", str(folder), "-DEMPU_TESTS=ON", *options]
    for command in (made, ["cmake", "--build", str(folder), "--parallel", "2"]):
        subprocess.run(command, check=True, capture_output=True)
    return folder / "empu_native_tests"


def run(*command: str) -> str:
    """What it printed; it must have found nothing."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_random_calls_give_the_same_bits_under_sanitizers(tmp_path: Path) -> None:
    program = build(tmp_path, "-DEMPU_SANITIZE=address")
    assert "random shapes were tuned" in run(str(program), "10", "2000", "5")


@pytest.mark.slow
def test_arm_gives_the_same_bits_as_the_plain_loops(tmp_path: Path) -> None:
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("a compiler for ARM or its emulator is missing; on Debian: g++-aarch64-linux-gnu and qemu-user")
    target = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_EXE_LINKER_FLAGS=-static")
    program = build(tmp_path, *target, f"-DCMAKE_CXX_COMPILER={compiler}")
    said = run(emulator, str(program), "10", "1000", "3")
    assert "instruction sets: neon scalar" in said
