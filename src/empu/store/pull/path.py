"""Models in files on this machine, copied into the store or linked."""

from __future__ import annotations

from pathlib import Path

from empu.errors import UsageError
from empu.ledger.hashing import FileId, content_id, hash_file, model_id
from empu.store.describe import ModelDescription, make_record, open_and_describe
from empu.store.file_copy import copy_file
from empu.store.model_record import ModelRecord, ModelSource
from empu.store.names import name_from_text
from empu.store.progress import SilentProgress, TransferProgress
from empu.store.pull.source import ExistingModel, find_by_id, readable_models
from empu.store.store import Store
from empu.system import durable
from empu.system.paths import user_path


class PathSource:
    """A GGUF file or the folder of a model."""

    is_resumable = False

    def __init__(self, typed: str, *, link: bool) -> None:
        """Open the model at the path. Raises :class:`~empu.errors.UsageError` if the path does not exist."""
        if not typed:
            raise UsageError("The source of the model is empty; give 'default', hf:ORG/NAME or a path.")
        path = user_path(typed).absolute()
        if not path.exists():
            raise UsageError(
                f"{typed} does not exist; a source is 'default', hf:ORG/NAME, a GGUF file or the folder of a model."
            )
        self.description = open_and_describe(path)
        self.default_name = name_from_text(path.stem if path.is_file() else path.name)
        self.staging_key = f"path-{content_id(str(path))[:16]}"
        self.origin = ModelSource(typed, "path", str(path))
        self.linked_to = self.description.root if link else None
        self._hashed: list[FileId] = []

    def find_existing(self, store: Store, name: str, progress: TransferProgress) -> ExistingModel:
        """Hash the files if they are linked, or if this can save a copy; then find the model by its id."""
        if self.linked_to is None and not self._may_exist(store, name):
            return ExistingModel()
        self._hashed = _hash_files(self.description, progress)
        identity = model_id(self._hashed)
        store.check_name_free(name, identity)
        return find_by_id(store, identity, progress)

    def fetch(
        self, staging: Path, files_folder: Path, progress: TransferProgress
    ) -> tuple[ModelDescription, list[FileId]]:
        """Copy the files, unless they are linked."""
        if self.linked_to is not None:
            return self.description, self._hashed
        root = self.description.root
        return self.description, [_copy(root, name, files_folder, progress) for name in self.description.names]

    def _may_exist(self, store: Store, name: str) -> bool:
        """Return whether a stored model has files of the same names and sizes, or has the name."""
        root = self.description.root
        sizes = {(file, (root / file).stat().st_size) for file in self.description.names}
        return any(
            model.name == name or {(file.name, file.size) for file in model.record.files} == sizes
            for model in readable_models(store)
        )


def describe_path(path: Path, progress: TransferProgress | None = None) -> ModelRecord:
    """Return the record that linking ``path`` would write. The files are hashed in place."""
    path = path.expanduser().absolute()
    description = open_and_describe(path)
    files = _hash_files(description, progress or SilentProgress())
    return make_record(description, files, ModelSource(str(path), "path", str(path)), "", description.root)


def _hash_files(description: ModelDescription, progress: TransferProgress) -> list[FileId]:
    return [_hash(description.root / name, name, progress) for name in description.names]


def _hash(path: Path, name: str, progress: TransferProgress) -> FileId:
    size = path.stat().st_size
    progress.start(f"hashing {name}", size)
    digest = hash_file(path, progress.advance)
    progress.finish()
    return FileId(name, size, digest)


def _copy(root: Path, name: str, files_folder: Path, progress: TransferProgress) -> FileId:
    source, target = root / name, files_folder / name
    with durable.explain_write_errors(files_folder):
        target.parent.mkdir(parents=True, exist_ok=True)
    progress.start(f"copying {name}", source.stat().st_size)
    digest = copy_file(source, target, progress.advance)
    progress.finish()
    return FileId(name, target.stat().st_size, digest)
