"""Choose a recipe from the rows, with the reason for each choice, and fit it to a time budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from empu.config import ModelConfig
from empu.errors import UsageError
from empu.model.transformer import Transformer
from empu.tune.batches import common_prompt_prefix
from empu.tune.examples import PreferenceExample, TrainingExample
from empu.tune.native import supports_native
from empu.tune.objectives.select import objective_for
from empu.tune.recipe import Method, Precision, Recipe
from empu.tune.trainable import has_fast_bfloat16
from empu.tune.trainer import Trainer

TARGET_ROWS_SEEN = 4000
"""Rows that training on a small data set should see, all epochs together."""

PROMPT_LOSS_MAX_ROWS = 2000
"""Labelled rows below which the model is trained on their prompts as well."""

DPO_LEARNING_RATES: dict[Method, float] = {"lora": 1e-4, "full": 2e-6}
"""Lower than for supervised training: at those rates preference training diverges."""


@dataclass(frozen=True, slots=True)
class RecipePlan:
    """A recipe, the reasons for it, and how much work it is."""

    recipe: Recipe
    reasons: tuple[str, ...]
    rows: int
    tokens_per_epoch: int
    trainable_parameters: int
    seconds: float | None = None
    """Time of the run, measured by :func:`measure_time`; ``None`` before."""


def choose_recipe(
    config: ModelConfig,
    train: Sequence[TrainingExample],
    *,
    method: Method = "lora",
    labels: bool = False,
    rank: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    precision: Precision | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> RecipePlan:
    """Choose the recipe for these examples. Given values stay as they are; the rest follows from the data.

    ``labels``: whether completions are labels from a fixed set.
    """
    rows = len(train)
    prefix = len(common_prompt_prefix(train))
    tokens = sum(len(example) - prefix for example in train)
    reasons: list[str] = []

    batch_size = 8 if rows < 400 else 16 if rows < 2000 else 32
    reasons.append(f"batch size {batch_size}: {rows:,} rows give {-(-rows // batch_size):,} steps per epoch")
    if rows > 0 and isinstance(train[0], PreferenceExample):
        reasons.append("preference rows: direct preference optimisation (DPO) against the base model")
        epochs = 2 if epochs is None else epochs
        learning_rate = DPO_LEARNING_RATES[method] if learning_rate is None else learning_rate
    if epochs is None:
        epochs = max(3, min(8, round(TARGET_ROWS_SEEN / max(1, rows))))
        reasons.append(
            f"{epochs} epochs: fewer rows are trained on more often; training stops early if the validation loss rises"
        )
    if rank is None:
        rank = 16
        if method == "lora":
            reasons.append(f"LoRA rank {rank}: enough for one task in every measurement of this project")
    if learning_rate is None:
        learning_rate = 5e-5 if method == "full" else 2e-3 if labels else 1e-3
        reasons.append(f"learning rate {learning_rate:g}: linear warm-up, then linear decay to zero")
    if precision is None:
        precision = _choose_precision(method, config)
        reasons.append(f"{precision}: " + _PRECISION_REASONS[precision])
    neftune_alpha, label_smoothing = (5.0, 0.1) if labels and method == "lora" else (0.0, 0.0)
    if neftune_alpha:
        reasons.append(
            f"NEFTune noise {neftune_alpha:g} and label smoothing {label_smoothing:g}: labels are easily memorised"
        )
    prompt_loss_weight = 0.03 if neftune_alpha and rows < PROMPT_LOSS_MAX_ROWS else 0.0
    if prompt_loss_weight:
        reasons.append(
            f"prompt tokens have weight {prompt_loss_weight:g} in the loss: few labels teach little about the language"
        )
    recipe = Recipe(
        method=method,
        prompt_loss_weight=prompt_loss_weight,
        neftune_alpha=neftune_alpha,
        label_smoothing=label_smoothing,
        rank=rank,
        alpha=float(rank),
        precision=precision,
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        threads=threads or torch.get_num_threads(),
    )
    trainable = config.parameter_count() if method == "full" else recipe.lora.parameter_count(config)
    fraction = trainable / config.parameter_count()
    reasons.append(f"{trainable:,} parameters are trained, {fraction:.1%} of the model")
    return RecipePlan(recipe, tuple(reasons), rows, tokens + prefix * -(-rows // batch_size), trainable)


def fit_budget(plan: RecipePlan, seconds: float) -> RecipePlan:
    """Return the plan with as many epochs as fit in ``seconds``. The plan's time must have been measured.

    Raises :class:`~empu.errors.UsageError` if not even one epoch fits.
    """
    assert plan.seconds is not None
    if plan.seconds <= seconds:
        return plan
    seconds_per_epoch = plan.seconds / plan.recipe.epochs
    epochs = int(seconds // seconds_per_epoch)
    if epochs < 1:
        raise UsageError(
            f"One epoch takes about {seconds_per_epoch:.0f} s on this machine, and the budget is {seconds:.0f} s; "
            "give more time, or fewer rows."
        )
    reason = f"{epochs} of {plan.recipe.epochs} epochs: more do not fit in the budget of {seconds:.0f} s"
    recipe = replace(plan.recipe, epochs=epochs)
    return replace(plan, recipe=recipe, reasons=(*plan.reasons, reason), seconds=seconds_per_epoch * epochs)


def measure_time(
    plan: RecipePlan, model: Transformer, train: Sequence[TrainingExample], *, steps: int = 3
) -> RecipePlan:
    """Return the plan with ``seconds``, measured on a few steps over examples of all lengths.

    ``model`` is trainable; its weights are restored afterwards.
    """
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    order = sorted(range(len(train)), key=lambda i: len(train[i]))
    count = min(len(order), plan.recipe.batch_size * steps)
    sample = [train[order[i * len(order) // count]] for i in range(count)]
    recipe = replace(plan.recipe, epochs=1, max_steps=steps)
    trainer = Trainer(model, objective_for(recipe, sample), sample, [], recipe)
    start = time.perf_counter()
    step_ends: list[float] = []
    trainer.run(lambda progress: step_ends.append(time.perf_counter()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in before:
                parameter.copy_(before[name])
    # The first step also warms the caches, so it counts only where there is no other.
    span, count = (
        (step_ends[-1] - step_ends[0], len(step_ends) - 1) if len(step_ends) > 1 else (step_ends[0] - start, 1)
    )
    return replace(plan, seconds=span / count * Trainer.count_steps(plan.rows, plan.recipe))


_PRECISION_REASONS: dict[Precision, str] = {
    "float32": "every weight is trained, and small updates need full precision",
    "bfloat16": "this processor multiplies bfloat16 several times as fast as float32",
    "int8": "frozen weights are multiplied in 8 bits, adapters in float32",
}


def _choose_precision(method: Method, config: ModelConfig) -> Precision:
    if method == "full":
        return "float32"
    if torch.cuda.is_available():
        return "bfloat16"
    if supports_native(config):
        return "int8"
    return "bfloat16" if has_fast_bfloat16() else "float32"
