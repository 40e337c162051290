"""What the store writes down about a model, once, when it comes in: ``model.json``, beside its files.

A record is evidence: it says who stated what, and "not disclosed" or "not stated" where nobody did.
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

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Licence:
    """Under which terms, and who says so. ``id`` is ``None`` where nobody does."""

    id: str | None = None
    title: str | None = None
    note: str | None = None
    """What it means in one sentence; ``None`` for licences that we do not know."""
    according_to: str | None = None
    text_file: str | None = None
    """Name, beside ``model.json``, of the licence text."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files came from."""

    typed: str
    """What the user typed after ``empu pull``."""
    kind: str
    """``package``, ``path`` or ``hub``."""
    address: str
    """The exact thing: package and version, absolute path, or repository."""
    revision: str | None = None
    """The hub's commit."""
    sha256: str | None = None
    """Of the package that held the file."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Somebody's word about the training data. Repeated, not vouched for."""

    according_to: str
    says: str


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What is known about the training data: what the files themselves say, and what others state publicly."""

    in_files: str = "not disclosed"
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Everything that is known of a stored model without opening it."""

    files: tuple[FileId, ...]
    format: str
    architecture: str
    config: Mapping[str, Any]
    parameters: int
    tensor_types: Mapping[str, int]
    """Storage type -> number of tensors that have it."""
    licence: Licence
    source: Source
    disclosure: Disclosure
    added_at: str
    """UTC, ISO 8601."""
    empu_version: str
    pulled_as: str
    """The name that it got then; names live in files of their own."""
    title: str | None = None
    """What the files call the model."""
    base_models: tuple[str, ...] = ()
    entry: str = ""
    """The file to open, relative to the model's folder; empty when the folder itself is opened."""
    base: str | None = None
    """Id of the model that this one is an adapter of; it must be in the store too."""
    linked_to: str | None = None
    """Folder that holds the files when they were left where they are."""
    id: str = field(default="")
    """SHA-256 over the list of files, hex."""

    def __post_init__(self) -> None:
        identity = model_id(self.files)
        if self.id not in ("", identity):
            raise ValueError(f"the id is {self.id}, but its list of files gives {identity}")
        object.__setattr__(self, "id", identity)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def storage(self) -> str:
        """How most matrices are stored. Norms are nearly always F32, so that counts only where nothing else is."""
        others = {name: count for name, count in self.tensor_types.items() if name != "F32"}
        return max(others, key=lambda name: others[name]) if others else "F32"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def write(record: ModelRecord) -> bytes:
    """The bytes of ``model.json``."""
    return (json.dumps(record.to_json(), indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode("utf-8")


def read(path: Path) -> ModelRecord:
    """Read ``model.json`` back. Raises :class:`~empu.errors.StoreError` when it is not what we wrote."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); give yourself the right to read it.") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); pull the model again to replace it.") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}); pull the model again to replace it.") from error
    try:
        if not isinstance(data, dict):
            raise ValueError("it holds no object")
        if data.pop("schema") != SCHEMA:
            raise ValueError("it was written by another version of Empu")
        return ModelRecord(
            **{
                **data,
                "files": tuple(FileId(**file) for file in data["files"]),
                "licence": Licence(**data["licence"]),
                "source": Source(**data["source"]),
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
