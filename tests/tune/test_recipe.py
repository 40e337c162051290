"""Recipes: checked values, JSON of this version and of earlier ones, and the learning rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from empu.errors import UsageError
from empu.tune.recipe import FORMER_KEYS, Recipe
from tests.tune.samples import RECIPE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("rank", 0), ("alpha", 0.0), ("learning_rate", 0.0), ("epochs", 0), ("warmup_ratio", 1.0)),
        *(("label_smoothing", 1.0), ("neftune_alpha", -1.0), ("max_steps", 0)),
    ],
)
def test_recipes_refuse_values_out_of_range(name: str, value: float) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=name):
        replace(RECIPE, **changes)


def test_recipes_survive_the_round_trip_through_json() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


def test_recipes_of_earlier_versions_are_read() -> None:
    recipe = replace(RECIPE, neftune_alpha=5.0, label_smoothing=0.1, prompt_loss_weight=0.03, max_grad_norm=2.0)
    former_key = {new: old for old, new in FORMER_KEYS.items()}
    former = {former_key.get(key, key): value for key, value in recipe.to_json().items()}
    assert {"noise", "smoothing", "reading", "clip", "batch_rows", "micro_tokens"} <= former.keys()
    assert Recipe.from_json(former) == recipe


def test_a_recipe_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(TypeError, match="temperature"):
        Recipe.from_json(RECIPE.to_json() | {"temperature": 1.0})


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    recipe = replace(RECIPE, learning_rate=1.0, warmup_ratio=0.1)
    rates = [recipe.learning_rate_at(step, 20) for step in range(20)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 18)
