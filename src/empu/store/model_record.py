"""The record of a stored model: ``model.json``, written once when the model is added.

Every statement in it names its author. Facts that nobody stated are "not disclosed" or "not stated".
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from empu.errors import StoreError
from empu.ledger.hashing import FileId, model_id
from empu.system.files import load_json_object
from empu.system.json import JsonError

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class LicenceInfo:
    """Licence of a model, and who states it. ``id`` is ``None`` if nobody states one."""

    id: str | None = None
    title: str | None = None
    note: str | None = None
    """One sentence on what it allows or requires; ``None`` for licences that are not in the table."""
    according_to: str | None = None
    text_file: str | None = None
    """Name of the file with the licence text, beside ``model.json``."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Origin of the files."""

    typed: str
    """Source as the user typed it after ``empu pull``."""
    kind: str
    """``package``, ``path``, ``hub`` or ``tuned``."""
    address: str
    """Package and version, absolute path, URL of the repository, or id of the base model."""
    revision: str | None = None
    """Commit of the repository."""
    sha256: str | None = None
    """Hash of the package that contained the file."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A public statement about the training data. It is quoted, not verified."""

    according_to: str
    says: str


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What is known about the training data: from the files themselves, and from public statements."""

    in_files: str = "not disclosed"
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """All facts about a stored model that are known without opening it."""

    files: tuple[FileId, ...]
    format: str
    architecture: str
    config: Mapping[str, Any]
    parameters: int
    tensor_types: Mapping[str, int]
    """Storage type -> number of tensors."""
    licence: LicenceInfo
    source: ModelSource
    disclosure: Disclosure
    added_at: str
    """UTC, ISO 8601."""
    empu_version: str
    pulled_as: str
    """Name given when it was added. Its names now are kept in separate files."""
    title: str | None = None
    """Name of the model according to its files."""
    base_models: tuple[str, ...] = ()
    entry: str = ""
    """File to open, relative to the model's folder; empty if the folder itself is opened."""
    base: str | None = None
    """Id of the base model, if this one is an adapter. The base must be in the store too."""
    linked_to: str | None = None
    """Folder of the files, if they were linked instead of copied."""
    id: str = field(default="")
    """SHA-256 of the list of files, in hex."""

    def __post_init__(self) -> None:
        identity = model_id(self.files)
        if self.id not in ("", identity):
            raise ValueError(f"its id is {self.id}, but its list of files has the id {identity}")
        object.__setattr__(self, "id", identity)

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files)

    @property
    def storage(self) -> str:
        """Storage type of most matrices. F32 counts only if there is no other type, since most norms are F32."""
        others = {name: count for name, count in self.tensor_types.items() if name != "F32"}
        return max(others, key=lambda name: others[name]) if others else "F32"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def write(record: ModelRecord) -> bytes:
    """Return the content of ``model.json``."""
    return (json.dumps(record.to_json(), indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode("utf-8")


def read(path: Path) -> ModelRecord:
    """Read ``model.json``. Raises :class:`~empu.errors.StoreError` if it is damaged or cannot be read."""
    try:
        data = load_json_object(path)
    except PermissionError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); give yourself read permission.") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); pull the model again to replace it.") from error
    except JsonError as error:
        raise StoreError(f"{path} is damaged ({error}); pull the model again to replace it.") from error
    try:
        if data.pop("schema") != SCHEMA:
            raise ValueError("it was written by another version of Empu")
        return ModelRecord(
            **{
                **data,
                "files": tuple(FileId(**file) for file in data["files"]),
                "licence": LicenceInfo(**data["licence"]),
                "source": ModelSource(**data["source"]),
                "base_models": tuple(data["base_models"]),
                "disclosure": Disclosure(
                    in_files=data["disclosure"]["in_files"],
                    statements=tuple(Statement(**s) for s in data["disclosure"]["statements"]),
                ),
            }
        )
    except KeyError as error:
        raise StoreError(f"{path} is damaged ({error} is missing); pull the model again to replace it.") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}); pull the model again to replace it.") from error
