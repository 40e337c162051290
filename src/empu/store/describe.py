"""Build the record of a model from its opened checkpoint and the metadata of its source."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from empu import __version__
from empu.checkpoint import Checkpoint, open_checkpoint
from empu.checkpoint.base import Provenance
from empu.errors import CheckpointError, TokenizerError
from empu.ledger import licences
from empu.ledger.hashing import FileId
from empu.store.model_record import Disclosure, LicenceInfo, ModelRecord, ModelSource, Statement
from empu.text import load_text_processor

LICENCE_FILE = "LICENSE"
"""Name of the file with the licence text, beside ``model.json``."""


@dataclass(frozen=True, slots=True)
class SourceMetadata:
    """Metadata from the source of a model, in addition to what its files say."""

    licence: str | None = None
    licence_text: str | None = None
    licence_from: str | None = None
    base_models: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    title: str | None = None


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Description of a model, independent of how it is added to the store."""

    format: str
    architecture: str
    config: Mapping[str, Any]
    parameters: int
    tensor_types: Mapping[str, int]
    licence: LicenceInfo
    licence_text: str | None
    disclosure: Disclosure
    title: str | None
    base_models: tuple[str, ...]
    root: Path
    """Folder of the model's files."""
    names: tuple[str, ...]
    """The model's files, relative to ``root``."""
    entry: str = ""
    """File to open, relative to ``root``; empty if the folder itself is opened."""


def open_and_describe(path: Path, metadata: SourceMetadata | None = None) -> ModelDescription:
    """Open the model at a path, check that its tokenizer belongs to it, and describe it.

    Raises the errors of :func:`~empu.checkpoint.open_checkpoint` and :func:`~empu.text.load_text_processor`.
    """
    with open_checkpoint(path) as checkpoint:
        check_tokenizer(checkpoint)
        return describe(checkpoint, metadata or SourceMetadata())


def check_tokenizer(checkpoint: Checkpoint) -> None:
    """Raise :class:`~empu.errors.TokenizerError` if there is no tokenizer, or one with more tokens than the model."""
    text = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata)
    tokens, rows = text.tokenizer.vocab_size, checkpoint.config.vocab_size
    if tokens > rows:
        raise TokenizerError(
            f"{checkpoint.path}: the tokenizer has {tokens:,} tokens and the model only {rows:,}, so tokens from "
            f"{rows:,} on have no embedding; take the model's own tokenizer, or resize the model's embedding."
        )


def describe(checkpoint: Checkpoint, metadata: SourceMetadata) -> ModelDescription:
    """Describe an open model."""
    root = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    names = tuple(_relative(file, root) for file in checkpoint.files)
    provenance = checkpoint.provenance
    licence, licence_text = _licence(provenance, metadata)
    return ModelDescription(
        format=checkpoint.format,
        architecture=architecture(checkpoint),
        config=dataclasses.asdict(checkpoint.config),
        parameters=checkpoint.config.parameter_count(),
        tensor_types=tensor_types(checkpoint),
        licence=licence,
        licence_text=licence_text,
        disclosure=Disclosure(provenance.training_data, metadata.statements),
        title=metadata.title or provenance.name,
        base_models=provenance.base_models or metadata.base_models,
        root=root,
        names=names,
        entry="" if checkpoint.path.is_dir() else checkpoint.path.name,
    )


def make_record(
    description: ModelDescription,
    files: Sequence[FileId],
    source: ModelSource,
    pulled_as: str,
    linked_to: Path | None = None,
) -> ModelRecord:
    """Return the record of a model that is added now."""
    return ModelRecord(
        files=tuple(sorted(files)),
        format=description.format,
        architecture=description.architecture,
        config=description.config,
        parameters=description.parameters,
        tensor_types=description.tensor_types,
        licence=description.licence,
        source=source,
        disclosure=description.disclosure,
        added_at=datetime.now(UTC).isoformat(timespec="seconds"),
        empu_version=__version__,
        pulled_as=pulled_as,
        title=description.title,
        base_models=description.base_models,
        entry=description.entry,
        linked_to=str(linked_to) if linked_to else None,
    )


def architecture(checkpoint: Checkpoint) -> str:
    """Return the name of the architecture according to the files."""
    stated = checkpoint.metadata.get("general.architecture")
    if stated is None:
        names = checkpoint.metadata.get("architectures")
        stated = names[0] if isinstance(names, list) and names else None
    return stated if isinstance(stated, str) else "llama"


def tensor_types(checkpoint: Checkpoint) -> dict[str, int]:
    """Return storage type -> number of tensors, most frequent first."""
    counts = Counter(checkpoint.stored_type(name).name for name in checkpoint.names())
    return dict(counts.most_common())


def _licence(provenance: Provenance, metadata: SourceMetadata) -> tuple[LicenceInfo, str | None]:
    """Return the licence and its text. A text takes precedence over a name, the source over the files."""
    text, name, origin = metadata.licence_text, metadata.licence, metadata.licence_from
    if text is None and provenance.licence_text:
        text, origin = provenance.licence_text, origin or "the licence text among its files"
    if name is None and provenance.licence:
        name, origin = provenance.licence, origin or "its files"
    known = (licences.identify(text) if text else None) or (licences.find_by_name(name) if name else None)
    return (
        LicenceInfo(
            id=known.id if known else name,
            title=known.title if known else None,
            note=known.note if known else None,
            according_to=origin,
            text_file=LICENCE_FILE if text else None,
        ),
        text,
    )


def _relative(file: Path, root: Path) -> str:
    try:
        name = PurePosixPath(file.relative_to(root))
    except ValueError:
        raise CheckpointError(f"{file} is outside the model's folder {root}; move it inside and try again.") from None
    return str(name)
