"""Preference training: the paper's loss, the base as its reference, and a model that learns to prefer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from empu.errors import CancelledError
from empu.model.attention import Packed
from empu.model.transformer import Transformer
from empu.tune.batches import Example
from empu.tune.objectives.preference import Pair, PreferenceTrainer, margins, with_references
from empu.tune.plan import PAIR_RATES, choose_recipe, prepare, time_plan
from empu.tune.recipe import Recipe
from tests.tune.making import tiny_model, weights

RECIPE = Recipe(rank=4, alpha=8.0, precision="float32", learning_rate=5e-3, batch_rows=8, epochs=3, threads=1)


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """The chosen answer repeats the prompt's marked token, the rejected one does not and is longer."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        token = int(random.integers(10, 20))
        noise = random.integers(30, 300, int(random.integers(1, 8))).tolist()
        made.append(Pair((1, 2, 3, *noise, token, 4), (token, 5), (int(random.integers(20, 30)), 6, 5)))
    return made


def log_probability(model: Transformer, example: Example) -> float:
    """Token by token, each with a pass of its own over everything before it."""
    total = 0.0
    for i, token in enumerate(example.answer):
        ids = torch.tensor([*example.prompt, *example.answer[:i]])
        with torch.no_grad():
            logits = model(ids, torch.arange(len(ids)), Packed([len(ids)]))[-1].double()
        total += float(logits[token] - torch.logsumexp(logits, 0))
    return total


def papers_loss(policy: Transformer, reference: Transformer, pair: Pair, beta: float) -> float:
    """Equation 7 of the paper for one pair."""
    chosen, rejected = pair.sides()
    better = log_probability(policy, chosen) - log_probability(reference, chosen)
    worse = log_probability(policy, rejected) - log_probability(reference, rejected)
    return -math.log(1 / (1 + math.exp(-(beta * better - beta * worse))))


def tuned(folder: Path | None = None, stop_at: int | None = None) -> PreferenceTrainer:
    model = prepare(tiny_model(), RECIPE)
    train, dev = list(with_references(model, pairs(64))), list(with_references(model, pairs(16, seed=1)))
    trainer = PreferenceTrainer(model, train, dev, RECIPE, folder=folder, identity="a run")
    trainer.run(stopped=lambda: trainer.counters.step == stop_at)
    return trainer


def test_the_loss_is_the_papers() -> None:
    policy, reference, some = tiny_model(1).requires_grad_(True), tiny_model(2), pairs(5)
    referred = list(with_references(reference, some))
    trainer = PreferenceTrainer(policy, referred, [], replace(RECIPE, preference_beta=0.3))
    with torch.no_grad():
        total, tokens = trainer.sum_of_losses(referred)
    expected = sum(papers_loss(policy, reference, pair, 0.3) for pair in some)
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert tokens > 0


def test_tuning_begins_at_the_base_where_the_loss_is_ln_2() -> None:
    model = prepare(tiny_model(), RECIPE)
    trainer = PreferenceTrainer(model, list(with_references(model, pairs(10))), [], RECIPE)
    with torch.no_grad():
        assert float(trainer.sum_of_losses(trainer.train)[0]) / 10 == pytest.approx(math.log(2), abs=1e-4)


def test_it_learns_to_prefer_what_was_chosen_in_pairs_that_it_has_not_seen() -> None:
    held_out, learned = pairs(40, seed=2), tuned().model
    with torch.no_grad():
        before = margins(tiny_model(), held_out)[0]
        after = margins(learned, held_out)[0]
    assert float((after > before).float().mean()) > 0.9
    assert float(after.mean()) > float(before.mean()) + 3


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = weights(tuned().model)
    with pytest.raises(CancelledError):
        tuned(tmp_path, stop_at=11)
    resumed = weights(tuned(tmp_path).model)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_plan_says_that_pairs_are_trained_and_times_them() -> None:
    plan = choose_recipe(tiny_model().config, pairs(20), precision="float32", rank=4, threads=1)
    assert plan.recipe.learning_rate == PAIR_RATES["lora"]
    assert any("preference" in reason for reason in plan.reasons)
    timed = time_plan(plan, prepare(tiny_model(), plan.recipe), pairs(20), steps=2)
    assert timed.seconds is not None
    assert timed.seconds > 0
