"""From an opened checkpoint to its record: shape, storage types, licence, what is disclosed about its training data."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from empu import __version__
from empu.checkpoint import Checkpoint, open_checkpoint
from empu.errors import CheckpointError
from empu.ledger import licences
from empu.ledger.hashing import FileId
from empu.store.model_record import Disclosure, Licence, ModelRecord, Source, Statement

TEXT_FILE = "LICENSE"
"""Name of the licence text beside ``model.json``."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the source adds to what the files say of themselves."""

    licence: str | None = None
    licence_text: str | None = None
    licence_from: str | None = None
    base_models: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """A record without the parts that depend on how the model came in."""

    format: str
    architecture: str
    config: Mapping[str, Any]
    parameters: int
    tensor_types: Mapping[str, int]
    licence: Licence
    licence_text: str | None
    disclosure: Disclosure
    title: str | None
    base_models: tuple[str, ...]
    names: tuple[str, ...] = field(default=())
    """The model's files, relative to ``root``."""
    root: Path = field(default_factory=Path)
    entry: str = ""


def open_and_describe(path: Path, told: Told | None = None) -> Described:
    """Open a model by its path and describe it. Raises what :func:`~empu.checkpoint.open_checkpoint` raises."""
    with open_checkpoint(path) as checkpoint:
        return describe(checkpoint, told or Told())


def describe(checkpoint: Checkpoint, told: Told) -> Described:
    """What the record will say of an open model."""
    root = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    names = tuple(_relative(file, root) for file in checkpoint.files)
    said = checkpoint.provenance
    licence, text = _licence(checkpoint, told)
    return Described(
        format=checkpoint.format,
        architecture=architecture(checkpoint),
        config=dataclasses.asdict(checkpoint.config),
        parameters=checkpoint.config.parameter_count(),
        tensor_types=tensor_types(checkpoint),
        licence=licence,
        licence_text=text,
        disclosure=Disclosure(said.training_data, told.statements),
        title=told.title or said.name,
        base_models=said.base_models or told.base_models,
        names=names,
        root=root,
        entry="" if checkpoint.path.is_dir() else checkpoint.path.name,
    )


def record(
    described: Described, files: Sequence[FileId], source: Source, pulled_as: str, linked_to: Path | None = None
) -> ModelRecord:
    """The record of a described model, now."""
    return ModelRecord(
        files=tuple(sorted(files)),
        format=described.format,
        architecture=described.architecture,
        config=described.config,
        parameters=described.parameters,
        tensor_types=described.tensor_types,
        licence=described.licence,
        source=source,
        disclosure=described.disclosure,
        added_at=datetime.now(UTC).isoformat(timespec="seconds"),
        empu_version=__version__,
        pulled_as=pulled_as,
        title=described.title,
        base_models=described.base_models,
        entry=described.entry,
        linked_to=str(linked_to) if linked_to else None,
    )


def architecture(checkpoint: Checkpoint) -> str:
    """The architecture under the name that the files themselves give."""
    stated = checkpoint.metadata.get("general.architecture")
    if stated is None:
        listed = checkpoint.metadata.get("architectures")
        stated = listed[0] if isinstance(listed, list) and listed else None
    return stated if isinstance(stated, str) else "llama"


def tensor_types(checkpoint: Checkpoint) -> dict[str, int]:
    """Storage type -> number of tensors, most frequent first."""
    counts = Counter(checkpoint.stored_type(name).name for name in checkpoint.names())
    return dict(counts.most_common())


def _licence(checkpoint: Checkpoint, told: Told) -> tuple[Licence, str | None]:
    """The licence and its text. A text outweighs a name; what the source says outweighs what stands in the files."""
    said = checkpoint.provenance
    text, name, origin = told.licence_text, told.licence, told.licence_from
    if text is None and said.licence_text:
        text, origin = said.licence_text, origin or "the licence text among its files"
    if name is None and said.licence:
        name, origin = said.licence, origin or "its files"
    known = (licences.identify(text) if text else None) or (licences.by_name(name) if name else None)
    return (
        Licence(
            id=known.id if known else name,
            title=known.title if known else None,
            note=known.note if known else None,
            according_to=origin,
            text_file=TEXT_FILE if text else None,
        ),
        text,
    )


def _relative(file: Path, root: Path) -> str:
    try:
        name = PurePosixPath(file.relative_to(root))
    except ValueError:
        raise CheckpointError(f"{file} lies outside the model's folder {root}; put it inside and try again.") from None
    return str(name)
