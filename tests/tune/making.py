"""Tiny models and rows for the tests of tuning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from empu.checkpoint.tensor_names import expected
from empu.config import preset
from empu.model.loading import build
from empu.model.transformer import Transformer
from empu.tune.batches import Example


def tiny_model(seed: int = 0, context: int = 256) -> Transformer:
    """The preset ``tiny`` with random weights in float32."""
    random = np.random.default_rng(seed)
    config = replace(preset("tiny"), context_length=context)
    tensors = [
        (tensor.name, random.standard_normal(tensor.shape, dtype=np.float32) * 0.1 + ("norm" in tensor.name))
        for tensor in expected(config, "meta")
    ]
    return build(config, [(name, array.astype(np.float32)) for name, array in tensors])


def rows(count: int, seed: int = 0) -> list[Example]:
    """A task that can be learned: the answer repeats the row's marked token, after a prefix that all rows share."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        token = int(random.integers(10, 20))
        noise = random.integers(30, 300, int(random.integers(1, 12))).tolist()
        made.append(Example((1, 2, 3, *noise, token, 4), (token, 5)))
    return made


def weights(model: Transformer) -> dict[str, torch.Tensor]:
    """Copies of all trained parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
