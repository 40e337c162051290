"""Named arrays -> a model, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from empu.config import ModelConfig
from empu.model.transformer import Transformer


def build(
    config: ModelConfig,
    tensors: Iterable[tuple[str, npt.NDArray[np.float32]]],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Transformer:
    """A model with exactly these weights. Memory beside the result: one tensor in float32.

    Raises ``RuntimeError`` (from torch) when a tensor is missing, unknown or of the wrong shape; checkpoints were
    checked before they get here.
    """
    with torch.device("meta"):
        model = Transformer(config)
    state = {name: torch.from_numpy(array).to(device=device, dtype=dtype) for name, array in tensors}
    model.load_state_dict(state, strict=True, assign=True)
    model.frequencies = model.frequencies.to(device)
    return model.requires_grad_(False).eval()
