"""Meta folders: ``params.json`` beside ``consolidated.00.pth``, or several of them, split for model parallelism.

The row order of query and key matrices is ours. A matrix that is split over files is put together when it is asked for;
from a single file, everything is a view.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor
from empu.checkpoint.blocks import BlockType
from empu.checkpoint.formats.meta.params import read_params
from empu.checkpoint.formats.torch.archive import TorchFile, TorchTensor, read_torch_file
from empu.checkpoint.model_card import licence_text, papers
from empu.checkpoint.tensor_names import TensorRow, our_name
from empu.errors import CheckpointError
from empu.system.json import read_json_object, shown

PARAMS = "params.json"
TOKENIZER = "tokenizer.model"

_WEIGHTS = re.compile(r"consolidated\.(\d\d)\.pth")
_NO_WEIGHT = re.compile(r"(layers\.\d+\.attention\.inner_attention\.)?rope\.freqs")
"""A buffer in Llama 1 and 2 files; it follows from the config."""

_EMBEDDING = "embedding.weight"


def is_mine(path: Path) -> bool:
    """Whether ``path`` is a folder with ``params.json`` and ``consolidated.NN.pth``, or one of those files in it."""
    folder = path.parent if path.is_file() else path
    if path.is_file() and path.name != PARAMS and not _WEIGHTS.fullmatch(path.name):
        return False
    return (folder / PARAMS).is_file() and any(_WEIGHTS.fullmatch(file.name) for file in folder.glob("consolidated.*"))


def open_meta(path: Path) -> Checkpoint:
    """Open a folder, reading the directories of its archives and no values.

    Raises :class:`CheckpointError` for damage, :class:`UnsupportedError` for quantised, vision and mixture models.
    """
    folder = path.parent if path.is_file() else path
    params = read_json_object(folder / PARAMS)
    shards = [read_torch_file(file) for file in _shard_paths(folder)]
    tensors = _join(shards, params.get("dim"))
    embedding = tensors.get(_EMBEDDING)
    config = read_params(params, embedding.shape[0] if embedding is not None else None, str(folder / PARAMS))
    return MetaCheckpoint(
        path=path,
        format="meta",
        files=_files(folder, shards),
        config=config,
        metadata=params,
        provenance=Provenance(licence_text=licence_text([folder, *_release(folder)])),
        tensors_by_name=tensors,
    )


@dataclass(frozen=True, slots=True)
class _Split:
    """One tensor over all files: its pieces in file order, laid side by side along ``axis``; ``None``: copies."""

    shape: tuple[int, ...]
    axis: int | None
    pieces: tuple[tuple[TorchFile, TorchTensor], ...]


@dataclass
class MetaCheckpoint(Checkpoint):
    """An open folder; unknown tensors keep their own names, so that the report can show them."""

    tensors_by_name: Mapping[str, _Split] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.tensors_by_name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._split(name).shape

    def stored_type(self, name: str) -> BlockType:
        return self._split(name).pieces[0][1].type

    def tensor(self, name: str) -> StoredTensor:
        """As in :class:`Checkpoint`; raises too when the files hold different copies of an unsplit tensor."""
        split = self._split(name)
        arrays = [file.bytes_of(piece.name) for file, piece in split.pieces]
        first_file, first = split.pieces[0]
        if split.axis is None:
            for (file, _), array in zip(split.pieces[1:], arrays[1:], strict=True):
                if not np.array_equal(array, arrays[0]):
                    raise CheckpointError(
                        f"{file.path}: tensor {shown(first.name)} differs from the copy in {first_file.path.name}; the "
                        "files do not belong together."
                    )
            data = arrays[0]
        elif len(arrays) == 1 or split.axis == 0:
            data = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        else:
            rows = [array.reshape(first.shape[0], -1) for array in arrays]
            data = np.concatenate(rows, axis=1).reshape(-1)
        return StoredTensor(name, split.shape, first.type, data)

    def _split(self, name: str) -> _Split:
        try:
            return self.tensors_by_name[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {shown(name)}.") from None


def _shard_paths(folder: Path) -> list[Path]:
    """All ``consolidated.NN.pth`` in order; a gap in the numbers means that a file is missing."""
    found = sorted(file for file in folder.iterdir() if _WEIGHTS.fullmatch(file.name))
    for number, file in enumerate(found):
        if file.name != f"consolidated.{number:02}.pth":
            raise CheckpointError(f"{folder} lacks consolidated.{number:02}.pth but has {file.name}; fetch it as well.")
    return found


def _join(shards: list[TorchFile], dim: object) -> dict[str, _Split]:
    """Every tensor of the model with its pieces; all files must name the same tensors."""
    names = shards[0].tensors.keys()
    for shard in shards[1:]:
        if different := sorted(shard.tensors.keys() ^ names):
            raise CheckpointError(
                f"{shard.path}: tensor {shown(different[0])} is in one of the files only (this or "
                f"{shards[0].path.name}); the files do not belong together."
            )
    result: dict[str, _Split] = {}
    for foreign in names:
        if _NO_WEIGHT.fullmatch(foreign):
            continue
        found = our_name(foreign, "meta")
        name, row = found if found is not None else (foreign, None)
        result[name] = _fit([(shard, shard.tensors[foreign]) for shard in shards], row, dim)
    return result


def _fit(pieces: list[tuple[TorchFile, TorchTensor]], row: TensorRow | None, dim: object) -> _Split:
    file, first = pieces[0]
    for other_file, other in pieces[1:]:
        if (other.shape, other.type) != (first.shape, first.type):
            raise CheckpointError(
                f"{other_file.path}: tensor {shown(first.name)} is {other.type.name} {other.shape}, and "
                f"{first.type.name} {first.shape} in {file.path.name}; the files do not belong together."
            )
    axis = _axis(first, row, dim)
    if axis is None:
        shape = first.shape
    else:
        shape = (*first.shape[:axis], first.shape[axis] * len(pieces), *first.shape[axis + 1 :])
    return _Split(shape, axis, tuple(pieces))


def _axis(piece: TorchTensor, row: TensorRow | None, dim: object) -> int | None:
    """Along which axis the pieces lie side by side.

    Llama 2 splits its embedding by columns, as the table says, and Llama 3 by rows; whole columns tell which it is.
    Only matrices are split, so a table row of another rank is left alone for the report of wrong shapes.
    """
    if row is None or row.meta_split is None or len(piece.shape) != 2:
        return None
    if row.name == _EMBEDDING and piece.shape[1] == dim:
        return 0
    return row.meta_split


def _files(folder: Path, shards: list[TorchFile]) -> tuple[Path, ...]:
    """The tokenizer may lie in the folder or, as in Meta's first releases, beside it."""
    tokenizer = next((place / TOKENIZER for place in (folder, folder.parent) if (place / TOKENIZER).is_file()), None)
    own = papers(folder)
    return (folder / PARAMS, *(shard.path for shard in shards), *([tokenizer] if tokenizer else []), *own)


def _release(folder: Path) -> list[Path]:
    """The folder around it where that is the model's too: Meta's first releases had the tokenizer there, and those of
    the hub have the other format. Papers of any other folder are about something else.
    """
    around = folder.parent
    return [around] if any((around / name).is_file() for name in (TOKENIZER, "config.json")) else []
