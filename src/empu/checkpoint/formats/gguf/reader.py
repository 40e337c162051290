"""GGUF models: one file with configuration, tokenizer and tensors, all of it memory-mapped.

The container is ``gguf_format.py``, the configuration ``gguf_config.py``; ``llama`` files keep query and key rows in
our order already, so every tensor is a view of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor
from empu.checkpoint.formats.gguf.config import ROPE_FACTORS, read_config
from empu.checkpoint.formats.gguf.container import MAGIC, GgufFile, Place
from empu.checkpoint.tensor_names import expected_shapes, our_name
from empu.config import ModelConfig
from empu.errors import CheckpointError
from empu.system.json import Bytes, shown

_LONGEST_TEXT = 2000
_MOST_NAMED = 64


def is_mine(path: Path) -> bool:
    """Whether ``path`` is a file that begins as GGUF does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def open_gguf(path: Path) -> Checkpoint:
    """Open a file, reading its header only.

    Raises :class:`CheckpointError` for damage, :class:`~empu.errors.UnsupportedError` for other architectures, versions
    and tensor types.
    """
    file = GgufFile.read(path)
    config = read_config(file)
    return GgufCheckpoint(
        path=path,
        format="gguf",
        files=(path,),
        config=config,
        metadata=file.metadata,
        provenance=read_provenance(file.metadata),
        data=file.data,
        places=_our_places(file, config),
    )


@dataclass
class GgufCheckpoint(Checkpoint):
    """An open file; unknown tensors keep their own names, so that the report can show them."""

    data: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))
    places: Mapping[str, Place] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._place(name).shape

    def tensor(self, name: str) -> StoredTensor:
        place = self._place(name)
        return StoredTensor(name, place.shape, place.type, self.data[place.start : place.end])

    def _place(self, name: str) -> Place:
        try:
            return self.places[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {shown(name)}.") from None


def read_provenance(metadata: Mapping[str, Any]) -> Provenance:
    """What the ``general.*`` keys say: name, licence, source, base models and data sets."""

    def text(*keys: str) -> str | None:
        values = (metadata.get(f"general.{key}") for key in keys)
        return next((value[:_LONGEST_TEXT] for value in values if isinstance(value, str) and value), None)

    def listed(kind: str) -> tuple[str, ...]:
        """Of each base model or data set its address, or its organisation and name."""
        count = metadata.get(f"general.{kind}.count")
        entries = range(min(count, _MOST_NAMED) if type(count) is int else 0)
        found = (text(f"{kind}.{i}.repo_url", f"{kind}.{i}.url", f"{kind}.{i}.name") for i in entries)
        return tuple(value for value in found if value)

    named = listed("dataset")
    if not named and isinstance(datasets := metadata.get("general.datasets"), list):
        named = tuple(value[:_LONGEST_TEXT] for value in datasets[:_MOST_NAMED] if isinstance(value, str) and value)
    licence = text("license")
    if licence in (None, "other"):
        licence = text("license.name", "license.link") or licence
    return Provenance(
        name=text("name", "basename"),
        licence=licence,
        source=text(
            "source.url", "source.repo_url", "repo_url", "url", "source.huggingface.repository", "organization"
        ),
        base_models=listed("base_model"),
        training_data=f"data sets named in the file: {', '.join(named)}" if named else "not disclosed",
    )


def _our_places(file: GgufFile, config: ModelConfig) -> dict[str, Place]:
    """Places by our names. Tensors that the format does not know keep theirs, unless that would pass them off as
    ours.
    """
    ours = expected_shapes(config)
    places: dict[str, Place] = {}
    for foreign, place in file.tensors.items():
        if foreign == ROPE_FACTORS:
            continue
        found = our_name(foreign, "gguf")
        if found is None and foreign in ours:
            raise CheckpointError(
                f"{file.path}: tensor {shown(foreign)} at byte {place.start:,} bears no name of this format; write the "
                "file anew with a tool that makes GGUF files."
            )
        places[foreign if found is None else found[0]] = place
    return places
