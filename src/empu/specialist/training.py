"""Build the model and the trainer of a run. Everything here affects the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from empu.checkpoint import open_checkpoint
from empu.model.loading import build_transformer
from empu.model.transformer import Transformer
from empu.tune.examples import TrainingExample
from empu.tune.objectives.select import objective_for
from empu.tune.recipe import Recipe
from empu.tune.trainable import make_trainable
from empu.tune.trainer import Trainer


def load_trainable_model(base: Path, recipe: Recipe) -> Transformer:
    """Load the base model in float32 and make it trainable as the recipe says."""
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    with open_checkpoint(base) as checkpoint:
        tensors = ((tensor.name, tensor.float32()) for tensor in checkpoint.tensors())
        model = build_transformer(checkpoint.config, tensors)
    return make_trainable(model, recipe)


def create_trainer(
    model: Transformer,
    recipe: Recipe,
    train: Sequence[TrainingExample],
    dev: Sequence[TrainingExample],
    identity: str,
    folder: Path | None = None,
) -> Trainer[Any]:
    """Return the trainer of a run. ``model`` is untrained; ``folder`` holds the checkpoint of the run."""
    objective = objective_for(recipe, train)
    return Trainer(model, objective, train, dev, recipe, folder=folder, identity=identity)
