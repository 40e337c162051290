"""The reader of Hugging Face folders: ``config.json`` beside ``model.safetensors``, or beside shards and their index.

Hugging Face stores query and key rows in another order (``tensor_names.py``), so reading these copies them. Every other
tensor is a view of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor
from empu.checkpoint.block_types import BlockType
from empu.checkpoint.formats.huggingface.config import read_config
from empu.checkpoint.formats.safetensors import SafetensorsFile, read_safetensors
from empu.checkpoint.model_card import legal_files, provenance_from_folder
from empu.checkpoint.tensor_names import (
    TensorRow,
    canonical_name,
    permuted_heads,
    reorder_rows,
    unpermute_rows,
)
from empu.errors import CheckpointError
from empu.system.files import ByteArray, read_json_object
from empu.system.json import MAX_JSON_BYTES
from empu.system.quoting import quoted

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
COMPANION_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "task.json",
    "README.md",
)
"""Files of a model beside its config and weights, in the order in which they are listed."""

TEMPLATE_FOLDER = "additional_chat_templates"

_IGNORED_BUFFER = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
"""A buffer that old versions of transformers saved. It follows from the config."""

_OUTPUT = "output.weight"
_EMBEDDING = "embedding.weight"


def is_huggingface(path: Path) -> bool:
    """Return whether ``path`` is a folder with a transformers ``config.json``, or a safetensors file in one."""
    if path.is_file():
        return _looks_like_safetensors(path) and (path.parent / CONFIG).is_file()
    if not (path / CONFIG).is_file():
        return False
    try:
        config = read_json_object(path / CONFIG)
    except CheckpointError:
        return any(path.glob("*.safetensors"))  # opening it will report what is wrong with the config
    return isinstance(config.get("model_type"), str) or isinstance(config.get("architectures"), list)


def open_huggingface(path: Path) -> Checkpoint:
    """Open a folder, or the weights in one, reading headers only.

    Raises :class:`CheckpointError` for damaged files and :class:`~empu.errors.UnsupportedError` for other
    architectures and types.
    """
    folder = path.parent if path.is_file() else path
    metadata = read_json_object(folder / CONFIG)
    config = read_config(metadata, str(folder / CONFIG))
    weights = _open_weights(folder, path if path.is_file() else None)
    checkpoint = HuggingFaceCheckpoint(
        path=path,
        format="huggingface",
        files=_list_files(folder, weights),
        config=config,
        metadata=metadata,
        provenance=_provenance(folder, metadata),
        entries=_by_canonical_name(weights),
    )
    checkpoint.resolve_tied_output()
    return checkpoint


@dataclass(frozen=True, slots=True)
class _TensorEntry:
    """One tensor: its file, its name there, and its row of the name table (``None`` for unknown names)."""

    file: SafetensorsFile
    stored_name: str
    row: TensorRow | None

    @property
    def dtype(self) -> str:
        return self.file.entries[self.stored_name].dtype

    @property
    def data(self) -> ByteArray:
        return self.file.bytes_of(self.stored_name)


@dataclass
class HuggingFaceCheckpoint(Checkpoint):
    """An open folder. Unknown tensors keep their stored names, so that error messages can show them."""

    entries: dict[str, _TensorEntry] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        entry = self._entry(name)
        return entry.file.entries[entry.stored_name].shape

    def stored_type(self, name: str) -> BlockType:
        entry = self._entry(name)
        return entry.file.type_of(entry.stored_name)

    def tensor(self, name: str) -> StoredTensor:
        entry = self._entry(name)
        type_, data, shape = self.stored_type(name), entry.data, self.shape(name)
        if entry.row is not None and (n_heads := permuted_heads(entry.row, self.config)) is not None:
            data = reorder_rows(data, shape, n_heads, unpermute_rows)
        return StoredTensor(name, shape, type_, data)

    def resolve_tied_output(self) -> None:
        """Decide what an output matrix means when the config says that the output is tied to the embedding.

        As in transformers, equal bytes are one matrix, and different bytes overrule the config. Old files often contain
        the copy; only then are the two matrices read at opening.
        """
        if not self.config.tie_embeddings or not {_OUTPUT, _EMBEDDING} <= self.entries.keys():
            return
        output, embedding = self._entry(_OUTPUT), self._entry(_EMBEDDING)
        if output.dtype == embedding.dtype and np.array_equal(output.data, embedding.data):
            del self.entries[_OUTPUT]
        else:
            self.config = self.config.replace(tie_embeddings=False)

    def _entry(self, name: str) -> _TensorEntry:
        try:
            return self.entries[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {quoted(name)}.") from None


def _looks_like_safetensors(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= MAX_JSON_BYTES


def _open_weights(folder: Path, chosen: Path | None) -> list[SafetensorsFile]:
    """Return the safetensors files of the model: one file, or all shards of the index, checked against it."""
    index = folder / INDEX
    weight_map = _read_index(index) if index.is_file() else {}
    if chosen is not None and chosen.name not in weight_map.values():
        return [read_safetensors(chosen)]
    if chosen is None and (folder / WEIGHTS).is_file():  # preferred to an index, as in transformers
        return [read_safetensors(folder / WEIGHTS)]
    if not index.is_file():
        raise CheckpointError(_describe_missing_weights(folder))
    shards = []
    for name in sorted(set(weight_map.values())):
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} lacks the shard {quoted(name)} that {INDEX} names; fetch it again.")
        shards.append(read_safetensors(folder / name))
    _check_index(weight_map, shards, index)
    return shards


def _read_index(index: Path) -> dict[str, str]:
    """Return tensor name -> file name. File names must be plain names in the same folder."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is missing or empty; expected tensor names with their files.")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name, re.ASCII):
            found = quoted(name) if isinstance(name, str) else f"a {type(name).__name__}"
            raise CheckpointError(
                f"{index}: the file of tensor {quoted(tensor)} is {found}; expected a plain name that ends in "
                ".safetensors."
            )
    return weight_map


def _check_index(weight_map: Mapping[str, str], shards: list[SafetensorsFile], index: Path) -> None:
    present = {(tensor, shard.path.name) for shard in shards for tensor in shard.entries}
    listed = set(weight_map.items())
    for pairs, problem in ((listed - present, "lists it, but it is missing"), (present - listed, "does not list it")):
        if pairs:
            tensor, name = min(pairs)
            more = f" (and {len(pairs) - 1:,} more)" if len(pairs) > 1 else ""
            raise CheckpointError(f"{index}: tensor {quoted(tensor)} of {name}{more}: the index {problem}.")


def _describe_missing_weights(folder: Path) -> str:
    if any(folder.glob("pytorch_model*.bin")):
        return (
            f"{folder} has its weights in pytorch_model.bin, a pickle, which Empu does not run; convert it where you "
            'trust it: python -c "from transformers import AutoModelForCausalLM as M; '
            "M.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER')\""
        )
    return f"{folder} has a {CONFIG} but no weights: expected {WEIGHTS}, or {INDEX} with its shards."


def _by_canonical_name(weights: list[SafetensorsFile]) -> dict[str, _TensorEntry]:
    entries: dict[str, _TensorEntry] = {}
    for file in weights:
        for stored_name in file.entries:
            if _IGNORED_BUFFER.fullmatch(stored_name):
                continue
            match = canonical_name(stored_name, "huggingface")
            name, row = match if match is not None else (stored_name, None)
            if row is not None:
                file.type_of(stored_name)  # reports an unsupported type now instead of in the middle of loading
            if name in entries:
                raise CheckpointError(f"{file.path}: tensor {quoted(stored_name)} is there twice.")
            entries[name] = _TensorEntry(file, stored_name, row)
    return entries


def _list_files(folder: Path, weights: list[SafetensorsFile]) -> tuple[Path, ...]:
    has_index = len(weights) > 1 or (weights[0].path.name != WEIGHTS and (folder / INDEX).is_file())
    companions = [folder / name for name in COMPANION_FILES if (folder / name).is_file()]
    templates = sorted((folder / TEMPLATE_FOLDER).glob("*.jinja"))
    weight_files = [*([folder / INDEX] if has_index else []), *(file.path for file in weights)]
    return (folder / CONFIG, *weight_files, *companions, *templates, *legal_files(folder))


def _provenance(folder: Path, config: Mapping[str, Any]) -> Provenance:
    source = config.get("_name_or_path")
    return provenance_from_folder(folder, source[:200] if isinstance(source, str) and source else None)
