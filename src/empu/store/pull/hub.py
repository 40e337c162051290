"""Models in a repository of a model hub: ``hf:ORG/NAME`` or ``hf:ORG/NAME/FILE.gguf``, with an optional ``@REVISION``.

Config, tokenizer, safetensors, GGUF and licence files are downloaded; pickles and code never are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint.formats.huggingface.config import read_config
from empu.checkpoint.formats.huggingface.reader import COMPANION_FILES, CONFIG, INDEX, WEIGHTS
from empu.checkpoint.model_card import LEGAL_FILE_PATTERNS, find_licence_text
from empu.errors import DownloadError, StoreError, UsageError
from empu.ledger.hashing import FileId, content_id, hash_file
from empu.store.describe import ModelDescription, open_and_describe
from empu.store.model_record import ModelSource
from empu.store.names import name_from_text
from empu.store.progress import TransferProgress
from empu.store.pull.hub_client import RemoteFile, Repository, query_repository, stays_inside
from empu.store.pull.hub_download import download_file
from empu.store.pull.source import ExistingModel, find_by_origin
from empu.store.store import Store
from empu.system import durable
from empu.system.files import load_json_object, read_json_object

PREFIX = "hf:"

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed ``hf:…`` address."""

    repository: str
    file: str | None = None
    """One GGUF file of the repository; ``None`` for the whole model."""
    revision: str | None = None

    @classmethod
    def parse(cls, typed: str) -> Address:
        """Parse an address. Raises :class:`~empu.errors.UsageError` with the valid forms."""
        path, _, revision = typed.removeprefix(PREFIX).partition("@")
        parts = path.split("/")
        repository, file = "/".join(parts[:2]), "/".join(parts[2:]) or None
        is_valid_file = file is None or (file.endswith(".gguf") and stays_inside(file))
        if not _REPOSITORY.fullmatch(repository) or not is_valid_file or (typed.count("@") == 1 and not revision):
            raise UsageError(
                f"{typed!r} is not the address of a repository; write hf:ORG/NAME, hf:ORG/NAME@REVISION or "
                "hf:ORG/NAME/FILE.gguf."
            )
        return cls(repository, file, revision or None)


class HubSource:
    """One commit of a repository, or one GGUF file in it."""

    is_resumable = True
    linked_to = None

    def __init__(self, typed: str) -> None:
        """Query the repository. Raises :class:`~empu.errors.UsageError` and :class:`~empu.errors.DownloadError`."""
        address = Address.parse(typed)
        self.file = address.file
        self.repository = query_repository(address.repository, address.revision)
        path = address.repository + (f"/{address.file}" if address.file else "")
        commit = self.repository.commit
        self.origin = ModelSource(typed, "hub", f"{self.repository.endpoint}/{path}", revision=commit)
        self.default_name = name_from_text(Path(address.file).stem if address.file else path.split("/")[1])
        self.staging_key = f"hub-{content_id([self.origin.address, commit])[:16]}"

    def find_existing(self, store: Store, name: str, progress: TransferProgress) -> ExistingModel:
        """Find the model by address and commit."""
        existing = find_by_origin(store, self.origin, progress)
        if existing.intact is None:
            self._check_name(store, name)
        return existing

    def fetch(
        self, staging: Path, files_folder: Path, progress: TransferProgress
    ) -> tuple[ModelDescription, list[FileId]]:
        """Download the files, then delete those that are not part of the model, such as the licence of a GGUF file."""
        metadata = self.repository.metadata
        if self.file is None:
            entry = files_folder
            for file in _select_files(self.repository, files_folder, progress):
                download_file(self.repository, file, files_folder / file.name, progress)
        else:
            entry = files_folder / Path(self.file).name
            metadata = dataclasses.replace(metadata, statements=self.repository.dataset_statements)
            for file in _legal_files(self.repository):
                download_file(self.repository, file, files_folder / file.name, progress)
            download_file(self.repository, self.repository.file(self.file), entry, progress)
        metadata = dataclasses.replace(metadata, licence_text=find_licence_text([files_folder]))
        description = open_and_describe(entry, metadata)
        files = [self._file_id(description, name) for name in description.names]
        _delete_other_files(files_folder, description)
        return description, files

    def _check_name(self, store: Store, name: str) -> None:
        """Refuse, before the download, a name of a model with which this commit shares no large file."""
        try:
            named = store.find_by_name(name)
        except StoreError:  # its record is damaged; it may be this very model
            return
        hashes = {file.sha256 for file in self.repository.files.values()}
        if named is not None and not any(file.sha256 in hashes for file in named.record.files):
            store.check_name_free(name, None)

    def _file_id(self, description: ModelDescription, name: str) -> FileId:
        """Return the identity of a downloaded file. The SHA-256 of a large file was checked after its download."""
        remote = self.repository.files.get(self.file or name)
        if remote is not None and remote.sha256 is not None:
            return FileId(name, remote.size, remote.sha256)
        path = description.root / name
        return FileId(name, path.stat().st_size, hash_file(path))


def _select_files(repository: Repository, folder: Path, progress: TransferProgress) -> Iterator[RemoteFile]:
    """Yield config, tokenizer and legal files, then the weights: one file, or the shards that the index lists.

    The config is downloaded and checked first, so that an unsupported model costs only a kilobyte.
    """
    if CONFIG not in repository.files or not {INDEX, WEIGHTS} & set(repository.files):
        hint = repository.gguf_hint("; it has ")
        remedy = f": pull one with hf:{repository.name}/FILE.gguf." if hint else "; choose another repository."
        raise DownloadError(f"hf:{repository.name} has no config.json with safetensors{hint}{remedy}")
    download_file(repository, repository.files[CONFIG], folder / CONFIG, progress)
    read_config(read_json_object(folder / CONFIG), f"{CONFIG} of {repository.name}")
    yield from (repository.files[name] for name in COMPANION_FILES if name in repository.files)
    yield from _legal_files(repository)
    if WEIGHTS in repository.files:
        yield repository.files[WEIGHTS]
        return
    download_file(repository, repository.files[INDEX], folder / INDEX, progress)
    yield from (repository.file(name) for name in _read_shards(folder / INDEX, repository))


def _read_shards(index: Path, repository: Repository) -> list[str]:
    """Return the names of the weight files that an index lists."""
    try:
        names = set(load_json_object(index)["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DownloadError(f"{INDEX} of {repository.name} is damaged ({error}).") from error
    if not all(isinstance(name, str) and name.endswith(".safetensors") and stays_inside(name) for name in names):
        raise DownloadError(f"{INDEX} of {repository.name} names files that are not safetensors.")
    return sorted(names)


def _legal_files(repository: Repository) -> list[RemoteFile]:
    """Return the licence, notice and policy files of a repository."""
    return [
        file
        for name, file in repository.files.items()
        if any(pattern.fullmatch(name) for pattern in LEGAL_FILE_PATTERNS)
    ]


def _delete_other_files(folder: Path, description: ModelDescription) -> None:
    """Delete downloaded files that are not part of the model. The store keeps the licence text elsewhere."""
    keep = {folder / name for name in description.names}
    for path in list(folder.rglob("*")):
        if path.is_file() and path not in keep:
            with durable.explain_write_errors(folder):
                path.unlink()
