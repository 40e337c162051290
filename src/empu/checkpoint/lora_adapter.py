"""LoRA adapters in PEFT's file format: ``adapter_config.json`` beside ``adapter_model.safetensors``.

PEFT uses the tensor names of transformers, whose query and key rows are in another order (``tensor_names.py``). The
rows of B are permuted in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from empu.checkpoint.base import StoredTensor
from empu.checkpoint.block_types import F32, FloatArray
from empu.checkpoint.formats.safetensors import PendingTensor, read_safetensors, write_safetensors
from empu.checkpoint.tensor_names import (
    TensorRow,
    canonical_name,
    expected_tensors,
    permute_rows,
    permuted_heads,
    unpermute_rows,
)
from empu.config import ModelConfig
from empu.errors import CheckpointError, UnsupportedError
from empu.system.durable import atomic_file
from empu.system.files import read_json_object
from empu.system.quoting import quoted

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_UNSUPPORTED_OPTIONS = (
    "use_dora",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "modules_to_save",
    "trainable_token_indices",
)
"""PEFT options whose update is not simply ``scale * B A``; such adapters are refused."""
_INITS_THAT_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MAX_ALPHA = 1e6


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """The low-rank update B A of a weight (out, in): a (rank, in), b (out, rank), in canonical row order."""

    a: FloatArray
    b: FloatArray


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """An adapter of a base model. ``layers`` are its weights by the canonical names of the adapted tensors."""

    rank: int
    alpha: float
    layers: Mapping[str, LoraWeights]
    base: str | None = None
    """The base model's name in the adapter's files."""

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / self.rank

    def merged(self, tensor: StoredTensor) -> FloatArray:
        """Return the float32 values of a base tensor, with its low-rank update added if there is one."""
        values = tensor.float32()
        if (lora := self.layers.get(tensor.name)) is not None:
            values += np.float32(self.scale) * (lora.b @ lora.a)
        return values


def is_adapter(folder: Path) -> bool:
    """Return whether ``folder`` has an adapter in PEFT's format."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_adapter(folder: Path, config: ModelConfig) -> LoraAdapter:
    """Read the adapter in ``folder`` for a base model with this config.

    Raises :class:`CheckpointError` for files that are damaged or do not fit the base, and :class:`UnsupportedError` for
    other kinds of adapters.
    """
    peft_config = read_json_object(folder / CONFIG)
    rank, alpha = _read_rank_and_alpha(peft_config, str(folder / CONFIG))
    file = read_safetensors(folder / WEIGHTS)
    expected = {tensor.name: tensor for tensor in expected_tensors(config, "huggingface")}
    matrices: dict[str, dict[str, FloatArray]] = {}
    for stored_name, entry in file.entries.items():
        name, half = _parse_name(stored_name, folder)
        if name not in expected or len(expected[name].shape) != 2:
            raise CheckpointError(f"{folder}: the adapter has {quoted(stored_name)}, but the base has no such matrix.")
        (out_dim, in_dim), row = expected[name].shape, expected[name].row
        array = file.type_of(stored_name).unpack(file.bytes_of(stored_name)).reshape(entry.shape)
        if array.shape != ((rank, in_dim) if half == "A" else (out_dim, rank)):
            raise CheckpointError(
                f"{folder}: {quoted(stored_name)} has the shape {array.shape}, which does not fit the base."
            )
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{folder}: {quoted(stored_name)} holds a number that is not finite; train or export it again."
            )
        if half == "B":
            array = _reorder(array, row, config, unpermute_rows)
        matrices.setdefault(name, {})[half] = array
    for name, halves in matrices.items():
        if len(halves) != 2:
            raise CheckpointError(f"{folder}: the adapter of {name} lacks one of its two matrices.")
    base = peft_config.get("base_model_name_or_path")
    layers = {name: LoraWeights(halves["A"], halves["B"]) for name, halves in matrices.items()}
    return LoraAdapter(rank, alpha, layers, base if isinstance(base, str) else None)


def write_adapter(
    folder: Path, adapter: LoraAdapter, config: ModelConfig, *, extra_config: Mapping[str, Any] | None = None
) -> None:
    """Write the two files into ``folder``, which exists. ``extra_config`` adds keys to ``adapter_config.json``."""
    expected = {tensor.name: tensor for tensor in expected_tensors(config, "huggingface")}
    pending: list[PendingTensor] = []
    modules: set[str] = set()
    for name, lora in adapter.layers.items():
        module = expected[name].stored_name.removesuffix(".weight")
        modules.add(module.rsplit(".", 1)[-1])
        b = _reorder(lora.b, expected[name].row, config, permute_rows)
        for half, array in (("A", lora.a), ("B", b)):
            pending.append(_pending_tensor(f"base_model.model.{module}.lora_{half}.weight", array))
    write_safetensors(folder / WEIGHTS, pending, {"format": "pt"})
    peft_config = {
        **(extra_config or {}),
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(modules),
        "base_model_name_or_path": adapter.base,
        "inference_mode": True,
    }
    with atomic_file(folder / CONFIG) as file:
        file.write((json.dumps(peft_config, indent=2, sort_keys=True) + "\n").encode())


def _read_rank_and_alpha(peft_config: Mapping[str, Any], where: str) -> tuple[int, float]:
    """Check that ``adapter_config.json`` describes plain LoRA, and return its rank and alpha."""
    if peft_config.get("peft_type") != "LORA" or peft_config.get("bias", "none") != "none":
        raise UnsupportedError(f"{where}: only plain LoRA adapters without biases are supported.")
    if options := [key for key in _UNSUPPORTED_OPTIONS if peft_config.get(key)]:
        raise UnsupportedError(f"{where}: it sets {' and '.join(options)}; only plain LoRA adapters are supported.")
    if (init := str(peft_config.get("init_lora_weights"))).startswith(_INITS_THAT_CHANGE_THE_BASE):
        raise UnsupportedError(
            f"{where}: init_lora_weights is {quoted(init)}, which changes the base's weights too; "
            "save the adapter as plain LoRA (PEFT: path_initial_model_for_weight_conversion)."
        )
    rank, alpha = peft_config.get("r"), peft_config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < _MAX_ALPHA:
        raise CheckpointError(f"{where}: lora_alpha is missing or not a usable number.")
    if type(rank) is not int or rank < 1:
        raise CheckpointError(f"{where}: r is missing or not a whole number from 1 on.")
    return rank, float(alpha)


def _pending_tensor(name: str, array: FloatArray) -> PendingTensor:
    data = np.ascontiguousarray(array, dtype="<f4")
    return PendingTensor(name, F32, data.shape, lambda: data.reshape(-1).view(np.uint8))


def _reorder(b: FloatArray, row: TensorRow, config: ModelConfig, reorder: Any) -> FloatArray:
    n_heads = permuted_heads(row, config)
    return b if n_heads is None else np.ascontiguousarray(reorder(b, n_heads))


def _parse_name(stored_name: str, folder: Path) -> tuple[str, str]:
    """Return the canonical name of the adapted weight and which half this is, A or B."""
    parts = stored_name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
    is_lora = len(parts) == 2 and parts[1] in ("A", "B")
    match = canonical_name(f"{parts[0]}.weight", "huggingface") if is_lora else None
    if match is None:
        raise UnsupportedError(
            f"{folder}: the adapter changes {quoted(stored_name)}, which is not a linear layer of this model."
        )
    return match[0], parts[1]
