"""Choosing a recipe, with reasons, and fitting it to a time budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from empu.errors import UsageError
from empu.tune.recipe_plan import DPO_LEARNING_RATES, choose_recipe, fit_budget, measure_time
from empu.tune.trainable import make_trainable
from tests.tune.objectives.test_preference import preference_examples
from tests.tune.samples import examples, tiny_model


def test_plans_give_reasons_and_fit_a_budget() -> None:
    plan = choose_recipe(tiny_model().config, examples(300), precision="float32")
    assert plan.recipe.batch_size == 8
    assert any("batch size" in reason for reason in plan.reasons)
    timed = replace(plan, seconds=80.0)
    assert fit_budget(timed, 100.0).recipe == plan.recipe
    shorter = fit_budget(timed, 80.0 / plan.recipe.epochs + 1)
    assert shorter.recipe.epochs == 1
    with pytest.raises(UsageError, match="One epoch takes about"):
        fit_budget(timed, 1.0)


def test_prompts_of_few_labelled_rows_are_in_the_loss() -> None:
    config = tiny_model().config
    few, many = (choose_recipe(config, examples(100) * times, labels=True, precision="float32") for times in (1, 20))
    assert few.recipe.prompt_loss_weight > 0
    assert any("prompt tokens" in reason for reason in few.reasons)
    unlabelled = choose_recipe(config, examples(100), precision="float32")
    assert many.recipe.prompt_loss_weight == unlabelled.recipe.prompt_loss_weight == 0


def test_the_plan_of_preferences_uses_dpo_and_can_be_timed() -> None:
    train = preference_examples(20)
    plan = choose_recipe(tiny_model().config, train, precision="float32", rank=4, threads=1)
    assert plan.recipe.learning_rate == DPO_LEARNING_RATES["lora"]
    assert any("preference" in reason for reason in plan.reasons)
    timed = measure_time(plan, make_trainable(tiny_model(), plan.recipe), train, steps=2)
    assert timed.seconds is not None
    assert timed.seconds > 0


def test_the_number_of_trained_parameters_is_that_of_the_model() -> None:
    plan = choose_recipe(tiny_model().config, examples(20), precision="float32", rank=3)
    model = make_trainable(tiny_model(), plan.recipe)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert plan.trainable_parameters == trained
