"""The interface of sources that models are pulled from, and the search for a model that the store has already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from empu.errors import StoreError
from empu.ledger.hashing import FileId
from empu.store.describe import ModelDescription
from empu.store.model_record import ModelSource
from empu.store.progress import TransferProgress
from empu.store.store import Store
from empu.store.stored_model import StoredModel


@dataclass(frozen=True, slots=True)
class ExistingModel:
    """What the store has of the model to pull: the model if it is intact, and whether it must be replaced."""

    intact: StoredModel | None = None
    is_damaged: bool = False


class PullSource(Protocol):
    """One place that a model comes from."""

    @property
    def default_name(self) -> str:
        """Name in the store, unless the user gives one."""

    @property
    def staging_key(self) -> str:
        """Key of the staging folder, the same for every pull of the same thing."""

    @property
    def is_resumable(self) -> bool:
        """Whether a later pull continues with the files of an interrupted one."""

    @property
    def origin(self) -> ModelSource:
        """Origin for the record."""

    @property
    def linked_to(self) -> Path | None:
        """Folder of the files if they stay in place; ``None`` if they go into the store."""

    def find_existing(self, store: Store, name: str, progress: TransferProgress) -> ExistingModel:
        """Find the model in the store. Raises :class:`~empu.errors.StoreError` if ``name`` is another model's."""

    def fetch(
        self, staging: Path, files_folder: Path, progress: TransferProgress
    ) -> tuple[ModelDescription, list[FileId]]:
        """Bring the files into ``files_folder``, which is inside ``staging``; return their description and hashes."""


def find_by_id(store: Store, model_id: str, progress: TransferProgress) -> ExistingModel:
    """Find the model with this id and check its files."""
    try:
        model = store.find(model_id)
    except StoreError as error:
        progress.say(f"{error} The model is replaced now.")
        return ExistingModel(is_damaged=True)
    return check_existing(store, model, progress)


def find_by_origin(store: Store, origin: ModelSource, progress: TransferProgress) -> ExistingModel:
    """Find the model that was pulled from the same address and revision, and check its files."""
    for model in readable_models(store):
        source = model.record.source
        if (source.address, source.revision) == (origin.address, origin.revision):
            return check_existing(store, model, progress)
    return ExistingModel()


def check_existing(store: Store, model: StoredModel | None, progress: TransferProgress) -> ExistingModel:
    """Check the files of a model of the store."""
    if model is None:
        return ExistingModel()
    try:
        store.verify(model, progress)
    except StoreError as error:
        progress.say(f"{error} The model is replaced now.")
        return ExistingModel(is_damaged=True)
    return ExistingModel(intact=model)


def readable_models(store: Store) -> Iterable[StoredModel]:
    """Return the models of the store without those whose record is damaged."""
    return store.list_models(on_damaged=lambda message: None)
