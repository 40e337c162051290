"""The preference objective: the paper's loss, the base model as reference, and a model that learns to prefer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from empu.errors import CancelledError
from empu.model.packed_documents import PackedDocuments
from empu.model.transformer import Transformer
from empu.tune.examples import Example, PreferenceExample
from empu.tune.objectives.preference import PreferenceObjective, margins
from empu.tune.objectives.select import objective_for
from empu.tune.trainable import make_trainable
from empu.tune.trainer import Trainer
from tests.tune.samples import RECIPE as SUPERVISED_RECIPE
from tests.tune.samples import copy_weights, tiny_model

RECIPE = replace(SUPERVISED_RECIPE, learning_rate=5e-3, epochs=3)


def preference_examples(count: int, seed: int = 0) -> list[PreferenceExample]:
    """Return preferences: the chosen completion repeats a marked token, the rejected one does not and is longer."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        token = int(rng.integers(10, 20))
        filler = rng.integers(30, 300, int(rng.integers(1, 8))).tolist()
        result.append(PreferenceExample((1, 2, 3, *filler, token, 4), (token, 5), (int(rng.integers(20, 30)), 6, 5)))
    return result


def log_probability(model: Transformer, example: Example) -> float:
    """Return the log-probability of a completion, with one forward pass per token."""
    total = 0.0
    for i, token in enumerate(example.completion):
        ids = torch.tensor([*example.prompt, *example.completion[:i]])
        with torch.no_grad():
            logits = model(ids, torch.arange(len(ids)), PackedDocuments([len(ids)]))[-1].double()
        total += float(logits[token] - torch.logsumexp(logits, 0))
    return total


def dpo_loss(policy: Transformer, reference: Transformer, pair: PreferenceExample, beta: float) -> float:
    """Return equation 7 of the paper for one pair."""
    chosen, rejected = pair.completions()
    chosen_gain = log_probability(policy, chosen) - log_probability(reference, chosen)
    rejected_gain = log_probability(policy, rejected) - log_probability(reference, rejected)
    return -math.log(1 / (1 + math.exp(-(beta * chosen_gain - beta * rejected_gain))))


def train(folder: Path | None = None, stop_at: int | None = None) -> Transformer:
    """Return the tiny model, trained on preferences."""
    model = make_trainable(tiny_model(), RECIPE)
    rows = preference_examples(64)
    objective = objective_for(RECIPE, rows)
    assert isinstance(objective, PreferenceObjective)
    dev = preference_examples(16, seed=1)
    trainer = Trainer(model, objective, rows, dev, RECIPE, folder=folder, identity="a run")
    trainer.run(should_stop=lambda: trainer.counters.step == stop_at)
    return model


def test_the_loss_is_that_of_the_paper() -> None:
    policy, reference, pairs = tiny_model(1), tiny_model(2), preference_examples(5)
    objective = PreferenceObjective(0.3)
    prepared = objective.prepare(reference, pairs)
    with torch.no_grad():
        total, tokens = objective.summed_loss(policy, prepared, (1, 2, 3), None)
    expected = sum(dpo_loss(policy, reference, pair, 0.3) for pair in pairs)
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert tokens > 0


def test_training_starts_at_the_base_model_where_the_loss_is_ln_2() -> None:
    objective = PreferenceObjective(0.1)
    model = make_trainable(tiny_model(), RECIPE)
    pairs = objective.prepare(model, preference_examples(10))
    with torch.no_grad():
        total, _ = objective.summed_loss(model, pairs, (), None)
    assert float(total) / objective.normaliser(pairs) == pytest.approx(math.log(2), abs=1e-4)


def test_training_learns_to_prefer_chosen_answers_of_unseen_pairs() -> None:
    unseen, trained = preference_examples(40, seed=2), train()
    with torch.no_grad():
        before = margins(tiny_model(), unseen)[0]
        after = margins(trained, unseen)[0]
    assert float((after > before).float().mean()) > 0.9
    assert float(after.mean()) > float(before.mean()) + 3


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    unbroken = copy_weights(train())
    with pytest.raises(CancelledError):
        train(tmp_path, stop_at=11)
    resumed = copy_weights(train(tmp_path))
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
