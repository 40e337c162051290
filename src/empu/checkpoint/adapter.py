"""LoRA adapters in PEFT's file format: ``adapter_config.json`` beside ``adapter_model.safetensors``.

PEFT names the base model's tensors as transformers does, whose query and key rows lie in another order than ours
(``names.py``); the rows of B follow them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.checkpoint.base import StoredTensor
from empu.checkpoint.blocks import F32
from empu.checkpoint.formats.safetensors import Planned, read_safetensors, write_safetensors
from empu.checkpoint.tensor_names import TensorRow, expected, our_name, permute_rows, permuted_heads, unpermute_rows
from empu.config import ModelConfig
from empu.errors import CheckpointError, UnsupportedError
from empu.system.durable import replacing
from empu.system.json import read_json_object, shown

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_BEYOND = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "lora_bias", "alora_invocation_tokens",
           "layer_replication", "target_parameters", "modules_to_save", "trainable_token_indices")  # fmt: skip
"""What PEFT's plain product of two matrices does not say."""
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MOST_ALPHA = 1e6

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LowRank:
    """B A, added to a weight (out, in) with the adapter's scale: a (rank, in), b (out, rank), in our row order."""

    a: Floats
    b: Floats


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter over a base model; ``layers`` maps our names of the adapted weights."""

    rank: int
    alpha: float
    layers: Mapping[str, LowRank]
    base: str | None = None
    """What the files call their base model."""

    @property
    def scale(self) -> float:
        """Factor of B A."""
        return self.alpha / self.rank

    def merged(self, tensor: StoredTensor) -> Floats:
        """The float32 values of a base tensor with the adapter added, where it has one for it."""
        values = tensor.float32()
        if (low := self.layers.get(tensor.name)) is not None:
            values += np.float32(self.scale) * (low.b @ low.a)
        return values


def is_adapter(folder: Path) -> bool:
    """Whether ``folder`` holds an adapter in PEFT's format."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_adapter(folder: Path, config: ModelConfig) -> Adapter:
    """The adapter in ``folder`` for a base of this shape.

    Raises :class:`CheckpointError` when files are damaged or do not fit the base, :class:`UnsupportedError` for other
    kinds of adapters.
    """
    about = read_json_object(folder / CONFIG)
    where = str(folder / CONFIG)
    if about.get("peft_type") != "LORA" or about.get("bias", "none") != "none":
        raise UnsupportedError(f"{where}: only plain LoRA adapters without biases are read.")
    if said := [key for key in _BEYOND if about.get(key)]:
        raise UnsupportedError(f"{where}: it sets {' and '.join(said)}; only plain LoRA adapters are read.")
    if (begun := str(about.get("init_lora_weights"))).startswith(_CHANGE_THE_BASE):
        raise UnsupportedError(
            f"{where}: init_lora_weights is {shown(begun)}, which changes the base's weights too; "
            "save the adapter as plain LoRA (PEFT: path_initial_model_for_weight_conversion)."
        )
    rank, alpha = about.get("r"), about.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < _MOST_ALPHA:
        raise CheckpointError(f"{where}: lora_alpha is missing or no number that can be used.")
    if type(rank) is not int or rank < 1:
        raise CheckpointError(f"{where}: r is missing or no whole number from 1 on.")
    file = read_safetensors(folder / WEIGHTS)
    halves: dict[str, dict[str, Floats]] = {}
    shapes = {tensor.name: (tensor.shape, tensor.row) for tensor in expected(config, "huggingface")}
    for foreign, entry in file.entries.items():
        name, half = _parse(foreign, folder)
        if name not in shapes or len(shapes[name][0]) != 2:
            raise CheckpointError(
                f"{folder}: the adapter has {shown(foreign)}, and the base has no matrix of that name."
            )
        (out, in_), row = shapes[name]
        array = file.type_of(foreign).unpack(file.bytes_of(foreign)).reshape(entry.shape)
        if array.shape != ((rank, in_) if half == "A" else (out, rank)):
            raise CheckpointError(
                f"{folder}: {shown(foreign)} has the shape {array.shape}, which does not fit the base."
            )
        if not np.isfinite(array).all():
            raise CheckpointError(f"{folder}: {shown(foreign)} holds a number that is not finite; make it again.")
        if half == "B":
            array = _reorder(array, row, config, unpermute_rows)
        halves.setdefault(name, {})[half] = array
    for name, found in halves.items():
        if len(found) != 2:
            raise CheckpointError(f"{folder}: the adapter of {name} lacks one of its two matrices.")
    base = about.get("base_model_name_or_path")
    layers = {name: LowRank(found["A"], found["B"]) for name, found in halves.items()}
    return Adapter(rank, float(alpha), layers, base if isinstance(base, str) else None)


def write_adapter(
    folder: Path, adapter: Adapter, config: ModelConfig, *, about: Mapping[str, Any] | None = None
) -> None:
    """Write the two files into ``folder``, which exists. ``about`` adds keys to the configuration."""
    rows = {tensor.name: tensor for tensor in expected(config, "huggingface")}
    planned: list[Planned] = []
    modules: set[str] = set()
    for name, low in adapter.layers.items():
        module = rows[name].foreign.removesuffix(".weight")
        modules.add(module.rsplit(".", 1)[-1])
        b = _reorder(low.b, rows[name].row, config, permute_rows)
        for half, array in (("A", low.a), ("B", b)):
            planned.append(_planned(f"base_model.model.{module}.lora_{half}.weight", array))
    write_safetensors(folder / WEIGHTS, planned, {"format": "pt"})
    described = {
        **(about or {}),
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
    with replacing(folder / CONFIG) as out:
        out.write((json.dumps(described, indent=2, sort_keys=True) + "\n").encode())


def _planned(name: str, array: Floats) -> Planned:
    data = np.ascontiguousarray(array, dtype="<f4")
    return Planned(name, F32, data.shape, lambda: data.reshape(-1).view(np.uint8))


def _reorder(b: Floats, row: TensorRow, config: ModelConfig, order: Any) -> Floats:
    heads = permuted_heads(row, config)
    return b if heads is None else np.ascontiguousarray(order(b, heads))


def _parse(foreign: str, folder: Path) -> tuple[str, str]:
    """Our name of the adapted weight, and which half this is."""
    parts: Sequence[str] = foreign.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
    found = our_name(f"{parts[0]}.weight", "huggingface") if len(parts) == 2 and parts[1] in ("A", "B") else None
    if found is None:
        raise UnsupportedError(
            f"{folder}: the adapter changes {shown(foreign)}, which is no linear layer of this model."
        )
    return found[0], parts[1]
