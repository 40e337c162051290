"""The loop: it learns, it repeats itself byte for byte, and a stop leaves no trace in the weights."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from empu.errors import CancelledError, CheckpointError, UsageError
from empu.tune.batches import Batch, Example, Examples, common_prefix, epoch_batches
from empu.tune.plan import choose_recipe, prepare, within
from empu.tune.recipe import Method, Precision, Recipe
from empu.tune.trainer import Outcome, Progress, Trainer
from tests.tune.making import rows, tiny_model, weights

RECIPE = Recipe(rank=4, alpha=8.0, precision="float32", learning_rate=1e-2, batch_rows=8, epochs=4, threads=1)


def tuned(
    recipe: Recipe, folder: Path | None = None, stop_at: int | None = None
) -> tuple[dict[str, torch.Tensor], Outcome]:
    model = prepare(tiny_model(), recipe)
    trainer = Trainer(model, rows(100), rows(30, seed=1), recipe, folder=folder, identity="a run")
    steps: list[int] = []

    def report(progress: Progress) -> None:
        steps.append(progress.step)

    outcome = trainer.run(report, lambda: bool(steps) and steps[-1] == stop_at)
    return weights(model), outcome


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_learns_and_repeats_itself(method: Method, precision: Precision) -> None:
    if method == "full" and precision != "float32":
        pytest.skip("full tuning is in float32")
    rate = 1e-2 if method == "lora" else 3e-3
    recipe = replace(RECIPE, method=method, precision=precision, learning_rate=rate)
    first, outcome = tuned(recipe)
    assert outcome.dev_losses[-1] < 0.5 * outcome.losses[0]
    second, _ = tuned(recipe)
    assert same(first, second)


@pytest.mark.parametrize("stop_at", [1, 13, 26, 51])
def test_a_stopped_run_goes_on_to_the_same_weights(stop_at: int, tmp_path: Path) -> None:
    whole, unbroken = tuned(RECIPE)
    with pytest.raises(CancelledError):
        tuned(RECIPE, tmp_path, stop_at)
    resumed, outcome = tuned(RECIPE, tmp_path)
    assert outcome.resumed_from == stop_at
    assert same(whole, resumed)
    assert (outcome.losses, outcome.dev_losses) == (unbroken.losses, unbroken.dev_losses)


def test_another_run_does_not_take_the_folder(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        tuned(RECIPE, tmp_path, 3)
    with pytest.raises(CheckpointError, match="an unfinished run on other rows"):
        Trainer(prepare(tiny_model(), RECIPE), rows(10), [], RECIPE, folder=tmp_path, identity="another")


def test_small_parts_give_the_gradient_of_the_whole() -> None:
    whole, _ = tuned(replace(RECIPE, max_steps=3))
    parts, _ = tuned(replace(RECIPE, max_steps=3, micro_tokens=20))
    assert all((whole[name] - parts[name]).abs().max() < 2e-4 for name in whole)


def test_tuning_ends_when_the_development_rows_get_worse() -> None:
    _, outcome = tuned(replace(RECIPE, epochs=40, learning_rate=0.2, patience=1))
    assert len(outcome.dev_losses) < 40
    assert outcome.best_epoch is not None
    assert outcome.dev_losses[outcome.best_epoch] == min(outcome.dev_losses)


def test_loss_is_on_answers_only_and_the_prefix_is_laid_down_once() -> None:
    examples = rows(5)
    prefix = common_prefix(examples)
    assert prefix == (1, 2, 3)
    batch = Batch.of(examples, prefix)
    assert len(batch.tokens) == 3 + sum(len(row) - 3 - 1 for row in examples)
    assert batch.targets.tolist() == [token for row in examples for token in row.answer]
    assert [int(batch.tokens[i]) for i in batch.read[::2]] == [4] * 5


def test_prompts_weigh_in_as_the_recipe_says_and_only_while_tuning() -> None:
    examples = rows(5)
    model = prepare(tiny_model(), RECIPE)
    losses = {}
    for reading in (0.0, 0.25):
        trainer = Trainer(model, examples, [], replace(RECIPE, reading=reading))
        losses[reading] = [trainer.sum_of_losses(examples, training=training)[0].item() for training in (True, False)]
    own = 0.0
    for row in examples:
        tokens = torch.tensor(row.prompt)
        batch = Batch.of([Example(row.prompt, row.answer)])
        hidden = model.hidden_of(model.embedding(batch.tokens), batch.attend.positions(), batch.attend)
        behind_prefix = model.logits(hidden[3 : len(tokens) - 1])
        own += cross_entropy(behind_prefix, tokens[4:], reduction="sum").item()
    assert losses[0.25][1] == losses[0.0][1] == pytest.approx(losses[0.0][0])
    assert losses[0.25][0] - losses[0.0][0] == pytest.approx(0.25 * own, rel=1e-4)


def test_packed_rows_are_the_rows() -> None:
    examples = rows(40)
    packed = Examples(iter(examples))
    assert list(packed) == examples
    assert packed[7:3:-2] == examples[7:3:-2]
    assert packed[-1] == examples[-1]
    with pytest.raises(IndexError):
        packed[40]
    assert epoch_batches(packed, 8, 0, 3) == epoch_batches(examples, 8, 0, 3)


def test_the_shared_beginning_leaves_each_prompt_its_last_token() -> None:
    prompts = [(1, 2, 3, 4, 5), (1, 2, 3, 9), (1, 2, 3, 4)]
    assert common_prefix(Example(prompt, (0,)) for prompt in prompts) == (1, 2, 3)
    assert common_prefix([Example((1, 2), (0,)), Example((1,), (0,))]) == ()
    assert common_prefix([]) == ()


def test_an_epoch_holds_each_row_once_in_an_order_of_its_own() -> None:
    examples = rows(77)
    one, two = (epoch_batches(examples, 8, 0, epoch) for epoch in (0, 1))
    assert sorted(chain(*one)) == sorted(chain(*two)) == list(range(77))
    assert one != two
    assert one == epoch_batches(examples, 8, 0, 0)


def test_plans_say_why_and_keep_to_a_budget() -> None:
    plan = choose_recipe(tiny_model().config, rows(300), precision="float32")
    assert plan.recipe.batch_rows == 8
    assert any("rows a step" in reason for reason in plan.reasons)
    timed = replace(plan, seconds=80.0)
    assert within(timed, 100.0).recipe == plan.recipe
    fewer = within(timed, 80.0 / plan.recipe.epochs + 1)
    assert fewer.recipe.epochs == 1
    with pytest.raises(UsageError, match="One pass over the rows takes about"):
        within(timed, 1.0)


@pytest.mark.parametrize(("name", "value"), [("rank", 0), ("learning_rate", 0.0), ("epochs", 0), ("warmup", 1.0)])
def test_recipes_refuse_what_cannot_be(name: str, value: float) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=name):
        replace(RECIPE, **changes)
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


def test_few_labelled_rows_are_also_read() -> None:
    config = tiny_model().config
    few, many = (choose_recipe(config, rows(100) * times, labels=True, precision="float32") for times in (1, 20))
    assert few.recipe.reading > 0
    assert any("own words" in reason for reason in few.reasons)
    assert many.recipe.reading == choose_recipe(config, rows(100), precision="float32").recipe.reading == 0
