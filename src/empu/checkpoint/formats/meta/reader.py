"""Meta folders: ``params.json`` beside ``consolidated.00.pth``, or several such files, split for model parallelism.

Query and key rows are in the canonical order. A matrix that is split over files is joined when it is requested. With a
single file, every tensor is a view of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor
from empu.checkpoint.block_types import BlockType
from empu.checkpoint.formats.meta.params import read_params
from empu.checkpoint.formats.torch.archive import TorchFile, TorchTensor, read_torch_file
from empu.checkpoint.model_card import find_licence_text, legal_files
from empu.checkpoint.tensor_names import TensorRow, canonical_name
from empu.errors import CheckpointError
from empu.system.files import read_json_object
from empu.system.quoting import quoted

PARAMS = "params.json"
TOKENIZER = "tokenizer.model"

_WEIGHTS = re.compile(r"consolidated\.(\d\d)\.pth")
_IGNORED_BUFFER = re.compile(r"(layers\.\d+\.attention\.inner_attention\.)?rope\.freqs")
"""A buffer in files of Llama 1 and 2. It follows from the config."""

_EMBEDDING = "embedding.weight"


def is_meta(path: Path) -> bool:
    """Return whether ``path`` is a folder with ``params.json`` and ``consolidated.NN.pth``, or one of these files."""
    folder = path.parent if path.is_file() else path
    if path.is_file() and path.name != PARAMS and not _WEIGHTS.fullmatch(path.name):
        return False
    return (folder / PARAMS).is_file() and any(_WEIGHTS.fullmatch(file.name) for file in folder.glob("consolidated.*"))


def open_meta(path: Path) -> Checkpoint:
    """Open a folder, reading the tables of contents of its archives and no values.

    Raises :class:`CheckpointError` for damaged files and :class:`~empu.errors.UnsupportedError` for quantised, vision
    and mixture-of-experts models.
    """
    folder = path.parent if path.is_file() else path
    params = read_json_object(folder / PARAMS)
    shards = [read_torch_file(file) for file in _shard_paths(folder)]
    tensors = _join_shards(shards, params.get("dim"))
    embedding = tensors.get(_EMBEDDING)
    embedding_rows = embedding.shape[0] if embedding is not None else None
    config = read_params(params, embedding_rows, str(folder / PARAMS))
    return MetaCheckpoint(
        path=path,
        format="meta",
        files=_list_files(folder, shards),
        config=config,
        metadata=params,
        provenance=Provenance(licence_text=find_licence_text([folder, *_release_folders(folder)])),
        tensors_by_name=tensors,
    )


@dataclass(frozen=True, slots=True)
class _SplitTensor:
    """One tensor over all files. Its parts, in file order, are joined along ``axis``; ``None`` means copies."""

    shape: tuple[int, ...]
    axis: int | None
    parts: tuple[tuple[TorchFile, TorchTensor], ...]


@dataclass
class MetaCheckpoint(Checkpoint):
    """An open folder. Unknown tensors keep their stored names, so that error messages can show them."""

    tensors_by_name: Mapping[str, _SplitTensor] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.tensors_by_name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entry(name).shape

    def stored_type(self, name: str) -> BlockType:
        return self._entry(name).parts[0][1].type

    def tensor(self, name: str) -> StoredTensor:
        """As in :class:`Checkpoint`. Also raises when the files have different copies of an unsplit tensor."""
        split = self._entry(name)
        arrays = [file.bytes_of(part.name) for file, part in split.parts]
        first_file, first = split.parts[0]
        if split.axis is None:
            for (file, _), array in zip(split.parts[1:], arrays[1:], strict=True):
                if not np.array_equal(array, arrays[0]):
                    raise CheckpointError(
                        f"{file.path}: tensor {quoted(first.name)} differs from the copy in "
                        f"{first_file.path.name}; the files do not belong together."
                    )
            data = arrays[0]
        elif len(arrays) == 1 or split.axis == 0:
            data = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        else:
            rows = [array.reshape(first.shape[0], -1) for array in arrays]
            data = np.concatenate(rows, axis=1).reshape(-1)
        return StoredTensor(name, split.shape, first.type, data)

    def _entry(self, name: str) -> _SplitTensor:
        try:
            return self.tensors_by_name[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {quoted(name)}.") from None


def _shard_paths(folder: Path) -> list[Path]:
    """Return all ``consolidated.NN.pth`` in order. A gap in the numbers means that a file is missing."""
    paths = sorted(file for file in folder.iterdir() if _WEIGHTS.fullmatch(file.name))
    for number, file in enumerate(paths):
        if file.name != f"consolidated.{number:02}.pth":
            raise CheckpointError(f"{folder} lacks consolidated.{number:02}.pth but has {file.name}; fetch it as well.")
    return paths


def _join_shards(shards: list[TorchFile], dim: object) -> dict[str, _SplitTensor]:
    """Return every tensor with its parts. All files must have the same tensor names."""
    names = shards[0].tensors.keys()
    for shard in shards[1:]:
        if differences := sorted(shard.tensors.keys() ^ names):
            raise CheckpointError(
                f"{shard.path}: tensor {quoted(differences[0])} is in one of the files only (this or "
                f"{shards[0].path.name}); the files do not belong together."
            )
    result: dict[str, _SplitTensor] = {}
    for stored_name in names:
        if _IGNORED_BUFFER.fullmatch(stored_name):
            continue
        match = canonical_name(stored_name, "meta")
        name, row = match if match is not None else (stored_name, None)
        result[name] = _join_parts([(shard, shard.tensors[stored_name]) for shard in shards], row, dim)
    return result


def _join_parts(parts: list[tuple[TorchFile, TorchTensor]], row: TensorRow | None, dim: object) -> _SplitTensor:
    file, first = parts[0]
    for other_file, other in parts[1:]:
        if (other.shape, other.type) != (first.shape, first.type):
            raise CheckpointError(
                f"{other_file.path}: tensor {quoted(first.name)} is {other.type.name} {other.shape}, and "
                f"{first.type.name} {first.shape} in {file.path.name}; the files do not belong together."
            )
    axis = _split_axis(first, row, dim)
    if axis is None:
        shape = first.shape
    else:
        shape = (*first.shape[:axis], first.shape[axis] * len(parts), *first.shape[axis + 1 :])
    return _SplitTensor(shape, axis, tuple(parts))


def _split_axis(part: TorchTensor, row: TensorRow | None, dim: object) -> int | None:
    """Return the axis along which the parts are joined; ``None`` for copies.

    Llama 2 splits its embedding by columns, as in the table, and Llama 3 by rows, recognised by the full width. Only
    matrices are split; a tensor of another rank is left for the report of wrong shapes.
    """
    if row is None or row.meta_split is None or len(part.shape) != 2:
        return None
    if row.name == _EMBEDDING and part.shape[1] == dim:
        return 0
    return row.meta_split


def _list_files(folder: Path, shards: list[TorchFile]) -> tuple[Path, ...]:
    """Return all files. The tokenizer is in the folder or, as in Meta's first releases, in its parent."""
    tokenizers = (parent / TOKENIZER for parent in (folder, folder.parent) if (parent / TOKENIZER).is_file())
    weights = (shard.path for shard in shards)
    return (folder / PARAMS, *weights, *islice(tokenizers, 1), *legal_files(folder))


def _release_folders(folder: Path) -> list[Path]:
    """Return the parent folder if it belongs to the same release; otherwise its licence is about something else.

    Meta's first releases have the tokenizer in the parent; those on the hub have the Hugging Face format there.
    """
    parent = folder.parent
    return [parent] if any((parent / name).is_file() for name in (TOKENIZER, "config.json")) else []
