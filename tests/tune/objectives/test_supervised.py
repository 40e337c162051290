"""The supervised objective: regularisation applies while training only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from empu.tune.batches import Batch, common_prompt_prefix
from empu.tune.objectives.supervised import SupervisedObjective
from empu.tune.trainable import make_trainable
from tests.tune.samples import RECIPE, examples, tiny_model


def test_prompt_tokens_have_the_weight_of_the_recipe_and_only_while_training() -> None:
    rows = examples(5)
    prefix = common_prompt_prefix(rows)
    model = make_trainable(tiny_model(), RECIPE)
    losses = {}
    for weight in (0.0, 0.25):
        objective = SupervisedObjective.from_recipe(replace(RECIPE, prompt_loss_weight=weight), rows)
        losses[weight] = [
            objective.summed_loss(model, rows, prefix, noise)[0].item() for noise in (torch.Generator(), None)
        ]
    prompt_loss = 0.0
    for row in rows:
        tokens = torch.tensor(row.prompt)
        batch = Batch.of([row])
        hidden = model.hidden_states(batch.tokens, batch.documents.positions(), batch.documents)
        logits_after_prefix = model.logits(hidden[3 : len(tokens) - 1])
        prompt_loss += cross_entropy(logits_after_prefix, tokens[4:], reduction="sum").item()
    assert losses[0.25][1] == losses[0.0][1] == pytest.approx(losses[0.0][0])
    assert losses[0.25][0] - losses[0.0][0] == pytest.approx(0.25 * prompt_loss, rel=1e-4)
