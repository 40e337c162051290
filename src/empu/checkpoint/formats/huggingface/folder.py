"""Hugging Face folders: ``config.json`` beside ``model.safetensors``, or beside shards and their index.

Query and key rows are stored there in another order than ours (``names.py``); reading turns them back, writing turns
them over. Everything else is a view of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor
from empu.checkpoint.blocks import BlockType
from empu.checkpoint.float_types import convert
from empu.checkpoint.formats.huggingface.config import read_config, write_config
from empu.checkpoint.formats.safetensors import Planned, SafetensorsFile, read_safetensors, write_safetensors
from empu.checkpoint.model_card import papers, read_provenance
from empu.checkpoint.tensor_names import (
    NamedTensor,
    TensorRow,
    expected,
    our_name,
    permute_rows,
    permuted_heads,
    unpermute_rows,
)
from empu.config import ModelConfig
from empu.errors import CheckpointError
from empu.system.durable import new_folder, replacing
from empu.system.json import JSON_LIMIT, Bytes, read_json_object, shown

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
COMPANIONS = (
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
"""Files that belong to a model beside its config and weights, in the order in which they are listed."""

TEMPLATES = "additional_chat_templates"
"""A folder of more of them."""

_NO_WEIGHT = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
"""A buffer that old versions of transformers saved; it follows from the config."""

_OUTPUT = "output.weight"
_EMBEDDING = "embedding.weight"


def is_mine(path: Path) -> bool:
    """Whether ``path`` is a folder with a transformers ``config.json``, or a safetensors file inside one."""
    if path.is_file():
        return _begins_like_safetensors(path) and (path.parent / CONFIG).is_file()
    if not (path / CONFIG).is_file():
        return False
    try:
        config = read_json_object(path / CONFIG)
    except CheckpointError:
        return any(path.glob("*.safetensors"))  # opening it will say what is wrong with the config
    return isinstance(config.get("model_type"), str) or isinstance(config.get("architectures"), list)


def open_huggingface(path: Path) -> Checkpoint:
    """Open a folder (or the weights inside one), reading headers only.

    Raises :class:`CheckpointError` for damage, :class:`UnsupportedError` for other architectures and types.
    """
    folder = path.parent if path.is_file() else path
    metadata = read_json_object(folder / CONFIG)
    config = read_config(metadata, str(folder / CONFIG))
    weights = _open_weights(folder, path if path.is_file() else None)
    checkpoint = HuggingFaceCheckpoint(
        path=path,
        format="huggingface",
        files=_files(folder, weights),
        config=config,
        metadata=metadata,
        provenance=_provenance(folder, metadata),
        places=_places(weights),
    )
    checkpoint.settle_tied_output()
    return checkpoint


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one of our tensors is: its file, its name there, and its row of the table (none for unknown names)."""

    file: SafetensorsFile
    foreign: str
    row: TensorRow | None


@dataclass
class HuggingFaceCheckpoint(Checkpoint):
    """An open folder; unknown tensors keep their own names, so that the report can show them."""

    places: dict[str, _Place] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.places)

    def shape(self, name: str) -> tuple[int, ...]:
        place = self._place(name)
        return place.file.entries[place.foreign].shape

    def stored_type(self, name: str) -> BlockType:
        place = self._place(name)
        return place.file.type_of(place.foreign)

    def tensor(self, name: str) -> StoredTensor:
        place = self._place(name)
        type_, data, shape = place.file.type_of(place.foreign), place.file.bytes_of(place.foreign), self.shape(name)
        if place.row is not None and (heads := permuted_heads(place.row, self.config)) is not None:
            data = reorder_rows(data, shape, heads, unpermute_rows)
        return StoredTensor(name, shape, type_, data)

    def settle_tied_output(self) -> None:
        """Decide what an output matrix means where the config says that it is the embedding.

        As transformers does: equal bytes are one matrix, and different ones overrule the config. Old files carry the
        copy often; only then are the two matrices read at opening.
        """
        if not self.config.tie_embeddings or not {_OUTPUT, _EMBEDDING} <= self.places.keys():
            return
        output, embedding = self._place(_OUTPUT), self._place(_EMBEDDING)
        same_kind = output.file.entries[output.foreign].dtype == embedding.file.entries[embedding.foreign].dtype
        if same_kind and np.array_equal(
            output.file.bytes_of(output.foreign), embedding.file.bytes_of(embedding.foreign)
        ):
            del self.places[_OUTPUT]
        else:
            self.config = self.config.replace(tie_embeddings=False)

    def _place(self, name: str) -> _Place:
        try:
            return self.places[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {shown(name)}.") from None


def reorder_rows(data: Bytes, shape: tuple[int, ...], heads: int, order: Callable[[Any, int], Any]) -> Bytes:
    """The bytes of a matrix with its rows in the other order. Bytes, so that the value type does not matter."""
    rows = data.reshape(shape[0], -1)
    return np.ascontiguousarray(order(rows, heads)).reshape(-1)


def _begins_like_safetensors(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= JSON_LIMIT


def _open_weights(folder: Path, chosen: Path | None) -> list[SafetensorsFile]:
    """The safetensors files of the model: one, or all shards of the index, held against it."""
    index = folder / INDEX
    weight_map = _read_index(index) if index.is_file() else {}
    if chosen is not None and chosen.name not in weight_map.values():
        return [read_safetensors(chosen)]
    if chosen is None and (folder / WEIGHTS).is_file():  # preferred to an index, as transformers does
        return [read_safetensors(folder / WEIGHTS)]
    if not index.is_file():
        raise CheckpointError(_no_weights(folder))
    shards = []
    for name in sorted(set(weight_map.values())):
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} lacks the shard {shown(name)} that {INDEX} names; fetch it again.")
        shards.append(read_safetensors(folder / name))
    _check_index(weight_map, shards, index)
    return shards


def _read_index(index: Path) -> dict[str, str]:
    """tensor name -> file name; names that are anything but a plain name in the same folder are refused."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is missing or empty; expected tensor names with their files.")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name, re.ASCII):
            found = shown(name) if isinstance(name, str) else f"a {type(name).__name__}"
            raise CheckpointError(
                f"{index}: the file of tensor {shown(tensor)} is {found}; expected a plain name that ends in "
                ".safetensors."
            )
    return weight_map


def _check_index(weight_map: Mapping[str, str], shards: list[SafetensorsFile], index: Path) -> None:
    held = {(tensor, shard.path.name) for shard in shards for tensor in shard.entries}
    named = set(weight_map.items())
    for pairs, what in ((named - held, "names it and it is not there"), (held - named, "does not name it")):
        if pairs:
            tensor, name = min(pairs)
            more = f" (and {len(pairs) - 1:,} more)" if len(pairs) > 1 else ""
            raise CheckpointError(f"{index}: tensor {shown(tensor)} of {name}{more}: the index {what}.")


def _no_weights(folder: Path) -> str:
    if any(folder.glob("pytorch_model*.bin")):
        return (
            f"{folder} holds its weights as pytorch_model.bin, a pickle, which Empu does not run; convert it where you "
            'trust it: python -c "from transformers import AutoModelForCausalLM as M; '
            "M.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER')\""
        )
    return f"{folder} has a {CONFIG} and no weights: expected {WEIGHTS}, or {INDEX} with its shards."


def _places(weights: list[SafetensorsFile]) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for file in weights:
        for foreign in file.entries:
            if _NO_WEIGHT.fullmatch(foreign):
                continue
            found = our_name(foreign, "huggingface")
            name, row = found if found is not None else (foreign, None)
            if row is not None:
                file.type_of(foreign)  # a type that is not read is named now, not in the middle of loading
            if name in places:
                raise CheckpointError(f"{file.path}: tensor {shown(foreign)} is there twice.")
            places[name] = _Place(file, foreign, row)
    return places


def _files(folder: Path, weights: list[SafetensorsFile]) -> tuple[Path, ...]:
    indexed = len(weights) > 1 or (weights[0].path.name != WEIGHTS and (folder / INDEX).is_file())
    companions = [folder / name for name in COMPANIONS if (folder / name).is_file()]
    templates = sorted((folder / TEMPLATES).glob("*.jinja"))
    weight_files = [*([folder / INDEX] if indexed else []), *(file.path for file in weights)]
    return (folder / CONFIG, *weight_files, *companions, *templates, *papers(folder))


def _provenance(folder: Path, config: Mapping[str, Any]) -> Provenance:
    source = config.get("_name_or_path")
    return read_provenance(folder, source[:200] if isinstance(source, str) and source else None)


def write_huggingface(
    folder: Path,
    config: ModelConfig,
    tensors: Callable[[str], StoredTensor],
    *,
    dtype: BlockType,
    shard_bytes: int = 5_000_000_000,
    files: Mapping[str, bytes] | None = None,
    extra_config: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as a folder that transformers opens; the folder appears whole or not at all.

    ``tensors`` gives a tensor by our name (``checkpoint.tensor`` fits) and is asked once for each, so that one is in
    memory at a time; values are converted to ``dtype`` (F32, F16 or BF16), and bytes that are of that type already
    stay as they are. Weights above ``shard_bytes`` go into several files with an index. ``files`` are written beside
    them (tokenizer, licence, card); ``extra_config`` adds keys to ``config.json`` such as ``eos_token_id``.
    """
    planned = [_plan(tensor, config, tensors, dtype) for tensor in expected(config, "huggingface")]
    shards = list(_split(planned, shard_bytes))
    own_config = write_config(config, dtype)
    with new_folder(folder) as temporary:
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            name = WEIGHTS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
            write_safetensors(temporary / name, shard, {"format": "pt"})
            weight_map.update((tensor.name, name) for tensor in shard)
        if len(shards) > 1:
            total = sum(tensor.n_bytes for tensor in planned)
            _write_json(temporary / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        _write_json(temporary / CONFIG, {**(extra_config or {}), **own_config})
        for name, content in (files or {}).items():
            if Path(name).name != name or (temporary / name).exists():
                raise ValueError(f"{name!r} is not a free plain file name")
            with replacing(temporary / name) as file:
                file.write(content)


def _plan(
    tensor: NamedTensor, config: ModelConfig, tensors: Callable[[str], StoredTensor], dtype: BlockType
) -> Planned:
    heads = permuted_heads(tensor.row, config)

    def load() -> Bytes:
        stored = tensors(tensor.name)
        if stored.shape != tensor.shape:
            raise ValueError(f"{tensor.name} has the shape {stored.shape}, expected {tensor.shape}")
        data = convert(stored, dtype)
        return data if heads is None else reorder_rows(data, tensor.shape, heads, permute_rows)

    return Planned(tensor.foreign, dtype, tensor.shape, load)


def _split(tensors: Sequence[Planned], shard_bytes: int) -> Iterator[list[Planned]]:
    """Consecutive tensors that together have at most ``shard_bytes``; a larger one gets a file of its own."""
    shard: list[Planned] = []
    filled = 0
    for tensor in tensors:
        if shard and filled + tensor.n_bytes > shard_bytes:
            yield shard
            shard, filled = [], 0
        shard.append(tensor)
        filled += tensor.n_bytes
    yield shard


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
