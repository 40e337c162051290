"""Checkpoint of an unfinished run: weights, optimiser moments and counters, written whole or not at all.

A checkpoint is one safetensors file whose metadata holds the counters. The file before it is replaced only when the new
one is on disk.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from empu.checkpoint.block_types import F32
from empu.checkpoint.formats.safetensors import PendingTensor, read_safetensors, write_safetensors
from empu.errors import CheckpointError

_FILE = "state.safetensors"


@dataclass
class Counters:
    """Progress of a run. ``losses`` has one mean per step, ``dev_losses`` one per finished epoch."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Finished batches of the current epoch."""
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    dev_losses: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Counters and float32 arrays by name: ``weight/NAME``, ``first/NAME``, ``second/NAME``, ``best/NAME``."""

    counters: Counters
    arrays: Mapping[str, np.ndarray]

    def tensors(self, group: str) -> dict[str, Tensor]:
        """Return the arrays of a group, such as "weight", as tensors by NAME."""
        return {
            name.removeprefix(f"{group}/"): torch.from_numpy(array)
            for name, array in self.arrays.items()
            if name.startswith(f"{group}/")
        }


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def state_disk_bytes(num_parameters: int) -> int:
    """Return the disk space that checkpoints need at most: two at once, each with four float32 values a parameter."""
    return 2 * 4 * 4 * num_parameters


def check_disk_space(folder: Path, num_parameters: int) -> None:
    """Raise :class:`CheckpointError` if ``folder`` has no room for the checkpoints of a run."""
    needed, free = state_disk_bytes(num_parameters), shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{folder} has {free / 1e6:,.0f} MB free, and the checkpoints of this run need {needed / 1e6:,.0f} MB; "
            "free some space, or set EMPU_HOME to another disk."
        )


def save_state(folder: Path, counters: Counters, tensors: Mapping[str, Tensor], identity: str) -> None:
    """Write a checkpoint of the run called ``identity``."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"identity": identity, "counters": json.dumps(asdict(counters))}
    write_safetensors(folder / _FILE, [_pending(*item) for item in sorted(tensors.items())], metadata)


def load_state(folder: Path, identity: str) -> TrainingState | None:
    """Return the last checkpoint of the run called ``identity``, or ``None``.

    Raises :class:`CheckpointError` for the checkpoint of another run.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    file = read_safetensors(path)
    if file.metadata.get("identity") != identity:
        raise CheckpointError(
            f"{folder} holds an unfinished run with other rows, another base model or another recipe; choose another "
            "folder, or remove this one to start over."
        )
    counters = Counters(**json.loads(file.metadata["counters"]))
    arrays = {
        name: file.bytes_of(name).copy().view(np.float32).reshape(entry.shape) for name, entry in file.entries.items()
    }
    return TrainingState(counters, arrays)


def _pending(name: str, tensor: Tensor) -> PendingTensor:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return PendingTensor(name, F32, array.shape, lambda: np.ascontiguousarray(array).reshape(-1).view(np.uint8))
