"""What a run needs to go on after it was stopped: weights, optimiser moments and counters, written whole or not at all.

A state is one safetensors file whose metadata holds the counters; the file that was there is replaced only when the new
one is on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from empu.checkpoint.blocks import F32
from empu.checkpoint.formats.safetensors import Planned, read_safetensors, write_safetensors
from empu.errors import CheckpointError

_FILE = "state.safetensors"


@dataclass
class Counters:
    """Where a run stands. ``losses`` has one mean per step, ``dev_losses`` one per finished epoch."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of the current epoch that are done."""
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    dev_losses: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """Counters and float32 arrays by name: ``weight/NAME``, ``first/NAME``, ``second/NAME``, ``best/NAME``."""

    counters: Counters
    arrays: Mapping[str, np.ndarray]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that tuning changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_state(folder: Path, counters: Counters, tensors: Mapping[str, Tensor], identity: str) -> None:
    """Write a state. ``identity`` names the run; another run's state is never taken for this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"identity": identity, "counters": json.dumps(asdict(counters))}
    write_safetensors(folder / _FILE, [_planned(*item) for item in sorted(tensors.items())], about)


def _planned(name: str, tensor: Tensor) -> Planned:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return Planned(name, F32, array.shape, lambda: np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def load_state(folder: Path, identity: str) -> State | None:
    """The last state of the run called ``identity``, or ``None``. Raises :class:`CheckpointError` for another's."""
    path = folder / _FILE
    if not path.is_file():
        return None
    file = read_safetensors(path)
    about = file.metadata
    if about.get("identity") != identity:
        raise CheckpointError(
            f"{folder} holds an unfinished run on other rows, another base or another recipe; name another folder, or "
            "remove it to begin anew."
        )
    counters = Counters(**json.loads(about["counters"]))
    arrays = {
        name: file.bytes_of(name).copy().view(np.float32).reshape(entry.shape) for name, entry in file.entries.items()
    }
    return State(counters, arrays)


def as_tensors(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    """The arrays under ``prefix/`` as tensors."""
    return {
        name.removeprefix(f"{prefix}/"): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(f"{prefix}/")
    }
