"""The training loop: it learns, repeats itself byte for byte, and resumes with the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from empu.errors import CancelledError, CheckpointError, UsageError
from empu.model.transformer import Transformer
from empu.tune.batches import Batch
from empu.tune.examples import Example
from empu.tune.objectives.select import objective_for
from empu.tune.recipe import Method, Precision, Recipe
from empu.tune.trainable import make_trainable
from empu.tune.trainer import Trainer, TrainProgress, TrainResult
from tests.tune.samples import RECIPE, copy_weights, examples, tiny_model


def train(
    recipe: Recipe, folder: Path | None = None, stop_at: int | None = None
) -> tuple[dict[str, torch.Tensor], TrainResult]:
    """Train the tiny model; return its weights and the result."""
    model, rows = make_trainable(tiny_model(), recipe), examples(100)
    objective = objective_for(recipe, rows)
    trainer = Trainer(model, objective, rows, examples(30, seed=1), recipe, folder=folder, identity="a run")
    steps: list[int] = []

    def on_step(progress: TrainProgress) -> None:
        steps.append(progress.step)

    result = trainer.run(on_step, lambda: bool(steps) and steps[-1] == stop_at)
    return copy_weights(model), result


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_learns_and_repeats_itself(method: Method, precision: Precision) -> None:
    if method == "full" and precision != "float32":
        pytest.skip("full tuning is in float32")
    learning_rate = 1e-2 if method == "lora" else 3e-3
    recipe = replace(RECIPE, method=method, precision=precision, learning_rate=learning_rate)
    first, result = train(recipe)
    assert result.dev_losses[-1] < 0.5 * result.losses[0]
    second, _ = train(recipe)
    assert are_equal(first, second)


@pytest.mark.parametrize("stop_at", [1, 13, 26, 51])
def test_a_stopped_run_resumes_to_the_same_weights(stop_at: int, tmp_path: Path) -> None:
    unbroken, unbroken_result = train(RECIPE)
    with pytest.raises(CancelledError):
        train(RECIPE, tmp_path, stop_at)
    resumed, result = train(RECIPE, tmp_path)
    assert result.resumed_from == stop_at
    assert are_equal(unbroken, resumed)
    assert (result.losses, result.dev_losses) == (unbroken_result.losses, unbroken_result.dev_losses)


def test_another_run_cannot_use_the_folder(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        train(RECIPE, tmp_path, 3)
    model, rows = make_trainable(tiny_model(), RECIPE), examples(10)
    with pytest.raises(CheckpointError, match="an unfinished run with other rows"):
        Trainer(model, objective_for(RECIPE, rows), rows, [], RECIPE, folder=tmp_path, identity="another")


def test_micro_batches_give_the_gradient_of_the_batch() -> None:
    whole, _ = train(replace(RECIPE, max_steps=3))
    parts, _ = train(replace(RECIPE, max_steps=3, micro_batch_tokens=20))
    assert all((whole[name] - parts[name]).abs().max() < 2e-4 for name in whole)


def test_training_stops_early_when_the_validation_loss_rises() -> None:
    _, result = train(replace(RECIPE, epochs=40, learning_rate=0.2, patience=1))
    assert len(result.dev_losses) < 40
    assert result.best_epoch is not None
    assert result.dev_losses[result.best_epoch] == min(result.dev_losses)


def test_training_without_rows_is_refused() -> None:
    with pytest.raises(UsageError, match="no training rows"):
        Trainer(make_trainable(tiny_model(), RECIPE), objective_for(RECIPE, []), [], [], RECIPE)


@dataclass(frozen=True)
class LastTokenObjective:
    """An objective from outside the package: the squared logit of each completion's first token."""

    def prepare(self, model: Transformer, rows: Sequence[Example]) -> Sequence[Example]:
        return rows

    def normaliser(self, rows: Sequence[Example]) -> int:
        return len(rows)

    def summed_loss(
        self, model: Transformer, rows: Sequence[Example], prefix: Sequence[int], noise: torch.Generator | None
    ) -> tuple[Tensor, int]:
        batch = Batch.of(rows, prefix)
        hidden = model.hidden_states(batch.tokens, batch.documents.positions(), batch.documents)
        logits = model.logits(hidden[batch.completion_positions[::2]])
        return logits.gather(1, batch.completion_targets[::2, None]).square().sum(), len(batch.tokens)


def test_a_new_objective_needs_no_change_of_the_trainer() -> None:
    result = Trainer(make_trainable(tiny_model(), RECIPE), LastTokenObjective(), examples(40), [], RECIPE).run()
    assert result.losses[-1] < 0.5 * result.losses[0]
