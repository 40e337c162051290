"""Supervised fine-tuning: cross-entropy over completions, with the recipe's regularisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from empu.model.transformer import Transformer
from empu.tune.batches import Batch
from empu.tune.cross_entropy import cross_entropy
from empu.tune.examples import Example
from empu.tune.recipe import Recipe


@dataclass(frozen=True, slots=True)
class SupervisedObjective:
    """Mean cross-entropy per completion token.

    NEFTune noise, label smoothing and the loss of prompt tokens apply while training only.
    """

    neftune_alpha: float
    label_smoothing: float
    prompt_loss_weight: float
    mean_length: float
    """Mean number of tokens of a training example; NEFTune scales its noise by it."""

    @classmethod
    def from_recipe(cls, recipe: Recipe, train: Sequence[Example]) -> SupervisedObjective:
        """Return the objective of ``recipe`` for these training examples."""
        mean_length = sum(map(len, train)) / max(1, len(train))
        return cls(recipe.neftune_alpha, recipe.label_smoothing, recipe.prompt_loss_weight, mean_length)

    def prepare(self, model: Transformer, examples: Sequence[Example]) -> Sequence[Example]:
        """Return the examples as they are."""
        return examples

    def normaliser(self, examples: Sequence[Example]) -> int:
        """Return the number of completion tokens."""
        return sum(len(example.completion) for example in examples)

    def summed_loss(
        self, model: Transformer, examples: Sequence[Example], prefix: Sequence[int], noise: torch.Generator | None
    ) -> tuple[Tensor, int]:
        """Return the summed loss in nats, and the number of tokens computed."""
        batch = Batch.of(examples, prefix)
        x = model.embedding(batch.tokens)
        if noise is not None and self.neftune_alpha:
            uniform = torch.rand(x.shape, generator=noise) * 2 - 1
            scale = self.neftune_alpha / math.sqrt(self.mean_length * model.config.dim)
            x = x + (uniform * scale).to(x.device, x.dtype)
        hidden = model.hidden_states_from_embeddings(x, batch.documents.positions(), batch.documents)
        weight = model.output_weight
        smoothing = self.label_smoothing if noise is not None else 0.0
        loss = cross_entropy(hidden[batch.completion_positions], weight, batch.completion_targets, smoothing).sum()
        if noise is not None and self.prompt_loss_weight:
            prompt_loss = cross_entropy(hidden[batch.prompt_positions], weight, batch.prompt_targets).sum()
            loss = loss + self.prompt_loss_weight * prompt_loss
        return loss, len(batch.tokens)
