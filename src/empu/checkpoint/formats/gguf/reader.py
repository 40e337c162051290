"""GGUF models: one memory-mapped file with config, tokenizer and tensors.

``container.py`` parses the file and ``config.py`` the config. Query and key rows of ``llama`` files are in canonical
order already, so every tensor is a view of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor
from empu.checkpoint.formats.gguf.config import ROPE_FACTORS, read_config
from empu.checkpoint.formats.gguf.container import MAGIC, GgufFile, GgufTensor
from empu.checkpoint.tensor_names import canonical_name, expected_shapes
from empu.config import ModelConfig
from empu.errors import CheckpointError
from empu.system.files import ByteArray
from empu.system.quoting import quoted

_MAX_TEXT = 2000
_MAX_LISTED = 64


def is_gguf(path: Path) -> bool:
    """Return whether ``path`` is a file that begins with the magic number of GGUF."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file, reading its header only.

    Raises :class:`CheckpointError` for a damaged file and :class:`~empu.errors.UnsupportedError` for other
    architectures, versions and tensor types.
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
        tensors_by_name=_by_canonical_name(file, config),
    )


@dataclass
class GgufCheckpoint(Checkpoint):
    """An open GGUF file. Unknown tensors keep their GGUF names, so that error messages can show them."""

    data: ByteArray = field(default_factory=lambda: np.empty(0, np.uint8))
    tensors_by_name: Mapping[str, GgufTensor] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.tensors_by_name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entry(name).shape

    def tensor(self, name: str) -> StoredTensor:
        entry = self._entry(name)
        return StoredTensor(name, entry.shape, entry.type, self.data[entry.start : entry.end])

    def _entry(self, name: str) -> GgufTensor:
        try:
            return self.tensors_by_name[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {quoted(name)}.") from None


def read_provenance(metadata: Mapping[str, Any]) -> Provenance:
    """Return what the ``general.*`` keys say: name, licence, source, base models and data sets."""

    def text(*keys: str) -> str | None:
        values = (metadata.get(f"general.{key}") for key in keys)
        return next((value[:_MAX_TEXT] for value in values if isinstance(value, str) and value), None)

    def listed(kind: str) -> tuple[str, ...]:
        """Return the URL or name of each base model or data set."""
        count = metadata.get(f"general.{kind}.count")
        indices = range(min(count, _MAX_LISTED) if type(count) is int else 0)
        names = (text(f"{kind}.{i}.repo_url", f"{kind}.{i}.url", f"{kind}.{i}.name") for i in indices)
        return tuple(name for name in names if name)

    dataset_names = listed("dataset")
    if not dataset_names and isinstance(datasets := metadata.get("general.datasets"), list):
        dataset_names = tuple(value[:_MAX_TEXT] for value in datasets[:_MAX_LISTED] if isinstance(value, str) and value)
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
        training_data=f"data sets named in the file: {', '.join(dataset_names)}" if dataset_names else "not disclosed",
    )


def _by_canonical_name(file: GgufFile, config: ModelConfig) -> dict[str, GgufTensor]:
    """Return the tensors by canonical name. Unknown tensors keep their GGUF name, unless it equals a canonical one."""
    canonical_names = expected_shapes(config)
    tensors: dict[str, GgufTensor] = {}
    for stored_name, tensor in file.tensors.items():
        if stored_name == ROPE_FACTORS:
            continue
        match = canonical_name(stored_name, "gguf")
        if match is None and stored_name in canonical_names:
            raise CheckpointError(
                f"{file.path}: tensor {quoted(stored_name)} at byte {tensor.start:,} does not have a GGUF name; write "
                "the file again with a tool that makes GGUF files."
            )
        tensors[stored_name if match is None else match[0]] = tensor
    return tensors
