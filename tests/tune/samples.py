"""Tiny models and examples for the tests of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from empu.checkpoint.tensor_names import expected_shapes
from empu.config import preset
from empu.model.loading import build_transformer
from empu.model.transformer import Transformer
from empu.tune.examples import Example
from empu.tune.objectives.select import objective_for
from empu.tune.recipe import Recipe
from empu.tune.trainable import make_trainable
from empu.tune.trainer import Trainer
from empu.tune.training_state import trainable_parameters

RECIPE = Recipe(rank=4, alpha=8.0, precision="float32", learning_rate=1e-2, batch_size=8, epochs=4, threads=1)


def tiny_model(seed: int = 0, context: int = 256) -> Transformer:
    """Return the preset ``tiny`` with random weights in float32."""
    rng = np.random.default_rng(seed)
    config = replace(preset("tiny"), context_length=context)
    tensors = [
        (name, rng.standard_normal(shape, dtype=np.float32) * 0.1 + ("norm" in name))
        for name, shape in expected_shapes(config).items()
    ]
    return build_transformer(config, [(name, array.astype(np.float32)) for name, array in tensors])


def examples(count: int, seed: int = 0) -> list[Example]:
    """Return examples that can be learned: the completion repeats a marked token. All prompts share a prefix."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        token = int(rng.integers(10, 20))
        filler = rng.integers(30, 300, int(rng.integers(1, 12))).tolist()
        result.append(Example((1, 2, 3, *filler, token, 4), (token, 5)))
    return result


def trainer_for(recipe: Recipe, train: list[Example]) -> Trainer[Example]:
    """Return a trainer of the tiny model without validation examples."""
    return Trainer(make_trainable(tiny_model(), recipe), objective_for(recipe, train), train, [], recipe)


def copy_weights(model: Transformer) -> dict[str, torch.Tensor]:
    """Return copies of all trained parameters."""
    return {name: parameter.detach().clone() for name, parameter in trainable_parameters(model).items()}
