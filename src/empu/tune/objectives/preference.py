"""Direct preference optimisation (DPO, Rafailov et al. 2023).

The loss of a pair is -log sigmoid(beta (margin - reference margin)). A margin is log p(chosen) - log p(rejected), each
a sum over the tokens of a completion; the reference margin is the base model's. It does not change, so it is computed
once, before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from empu.model.transformer import Transformer
from empu.tune.batches import Batch
from empu.tune.cross_entropy import cross_entropy
from empu.tune.examples import PreferenceExample
from empu.tune.recipe import Recipe


@dataclass(frozen=True, slots=True)
class PreferenceObjective:
    """Mean DPO loss per pair. ``beta``: how strongly the model is kept close to its base."""

    beta: float

    @classmethod
    def from_recipe(cls, recipe: Recipe, train: Sequence[PreferenceExample]) -> PreferenceObjective:
        """Return the objective of ``recipe``."""
        return cls(recipe.dpo_beta)

    def prepare(self, model: Transformer, examples: Sequence[PreferenceExample]) -> Sequence[PreferenceExample]:
        """Return the examples with the margins of ``model``, which must still be the base.

        Each example is computed alone, so that its margin does not depend on the others.
        """
        with torch.no_grad():
            return [replace(pair, reference_margin=float(margins(model, [pair])[0])) for pair in examples]

    def normaliser(self, examples: Sequence[PreferenceExample]) -> int:
        """Return the number of pairs."""
        return len(examples)

    def summed_loss(
        self,
        model: Transformer,
        examples: Sequence[PreferenceExample],
        prefix: Sequence[int],
        noise: torch.Generator | None,
    ) -> tuple[Tensor, int]:
        """Return the summed loss, and the number of tokens computed."""
        pair_margins, tokens = margins(model, examples, prefix)
        reference = torch.tensor([pair.reference_margin for pair in examples])
        return -F.logsigmoid(self.beta * (pair_margins - reference)).sum(), tokens


def margins(model: Transformer, pairs: Sequence[PreferenceExample], prefix: Sequence[int] = ()) -> tuple[Tensor, int]:
    """(N,) log p(chosen) - log p(rejected) of each pair, and the number of tokens computed."""
    examples = [example for pair in pairs for example in pair.completions()]
    batch = Batch.of(examples, prefix)
    hidden = model.hidden_states(batch.tokens, batch.documents.positions(), batch.documents)
    losses = cross_entropy(hidden[batch.completion_positions], model.output_weight, batch.completion_targets)
    by_completion = torch.split(losses, [len(example.completion) for example in examples])
    log_probabilities = torch.stack([-tokens.sum() for tokens in by_completion])
    return log_probabilities[0::2] - log_probabilities[1::2], len(batch.tokens)
