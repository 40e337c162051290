"""The writer of Hugging Face folders: ``config.json`` with ``model.safetensors``, or with shards and an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from empu.checkpoint.base import StoredTensor
from empu.checkpoint.block_types import BlockType
from empu.checkpoint.conversion import convert
from empu.checkpoint.formats.huggingface.config import write_config
from empu.checkpoint.formats.huggingface.reader import CONFIG, INDEX, WEIGHTS
from empu.checkpoint.formats.safetensors import PendingTensor, write_safetensors
from empu.checkpoint.tensor_names import ExpectedTensor, expected_tensors, permute_rows, permuted_heads, reorder_rows
from empu.config import ModelConfig
from empu.system.durable import atomic_file, atomic_folder
from empu.system.files import ByteArray


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
    """Write a model as a folder that transformers can open. The folder appears whole or not at all.

    ``tensors`` returns a tensor by its canonical name (``checkpoint.tensor`` fits) and is called once for each, so that
    one is in memory at a time. Values are converted to ``dtype`` (F32, F16 or BF16). Weights above ``shard_bytes`` are
    split into several files with an index. ``files`` are written beside them (tokenizer, licence, card);
    ``extra_config`` adds keys such as ``eos_token_id`` to ``config.json``.
    """
    pending = [_pending_tensor(tensor, config, tensors, dtype) for tensor in expected_tensors(config, "huggingface")]
    shards = list(_split_into_shards(pending, shard_bytes))
    with atomic_folder(folder) as temporary:
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            name = WEIGHTS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
            write_safetensors(temporary / name, shard, {"format": "pt"})
            weight_map.update((tensor.name, name) for tensor in shard)
        if len(shards) > 1:
            total = sum(tensor.n_bytes for tensor in pending)
            _write_json(temporary / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        _write_json(temporary / CONFIG, {**(extra_config or {}), **write_config(config, dtype)})
        for name, content in (files or {}).items():
            if Path(name).name != name or (temporary / name).exists():
                raise ValueError(f"{name!r} is not an unused plain file name")
            with atomic_file(temporary / name) as file:
                file.write(content)


def _pending_tensor(
    tensor: ExpectedTensor, config: ModelConfig, tensors: Callable[[str], StoredTensor], dtype: BlockType
) -> PendingTensor:
    n_heads = permuted_heads(tensor.row, config)

    def load() -> ByteArray:
        stored = tensors(tensor.name)
        if stored.shape != tensor.shape:
            raise ValueError(f"{tensor.name} has the shape {stored.shape}, expected {tensor.shape}")
        data = convert(stored, dtype)
        return data if n_heads is None else reorder_rows(data, tensor.shape, n_heads, permute_rows)

    return PendingTensor(tensor.stored_name, dtype, tensor.shape, load)


def _split_into_shards(tensors: Sequence[PendingTensor], shard_bytes: int) -> Iterator[list[PendingTensor]]:
    """Group consecutive tensors of at most ``shard_bytes`` together. A larger tensor gets its own file."""
    shard: list[PendingTensor] = []
    n_bytes = 0
    for tensor in tensors:
        if shard and n_bytes + tensor.n_bytes > shard_bytes:
            yield shard
            shard, n_bytes = [], 0
        shard.append(tensor)
        n_bytes += tensor.n_bytes
    yield shard


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
