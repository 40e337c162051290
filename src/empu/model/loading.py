"""Builds a transformer from named arrays, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from empu.config import ModelConfig
from empu.model.transformer import Transformer


def build_transformer(
    config: ModelConfig,
    tensors: Iterable[tuple[str, npt.NDArray[np.float32]]],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Transformer:
    """Return a model with exactly these weights. Memory beside the model: one tensor in float32.

    Raises ``RuntimeError`` (from torch) when a tensor is missing, unexpected or of the wrong shape. Checkpoint readers
    have checked this before.
    """
    with torch.device("meta"):
        model = Transformer(config)
    state_dict = {name: torch.from_numpy(array).to(device=device, dtype=dtype) for name, array in tensors}
    model.load_state_dict(state_dict, strict=True, assign=True)
    model.rope_frequencies = model.rope_frequencies.to(device)
    return model.requires_grad_(False).eval()
