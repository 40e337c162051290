"""What a run would do: a recipe chosen from the rows, the reason for each choice, and the time that it will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from empu.config import ModelConfig
from empu.errors import UsageError
from empu.model.transformer import Transformer
from empu.tune.batches import Example, common_prefix
from empu.tune.lora import attach
from empu.tune.native import attach_native, fits
from empu.tune.objectives.preference import Pair, PreferenceTrainer
from empu.tune.recipe import Method, Precision, Recipe
from empu.tune.trainer import Trainer

SEEN = 4000
"""Rows that a small data set should be seen, counting each epoch."""

FEW = 2000
"""Labelled rows below which a model learns to read them as well."""

PAIR_RATES: dict[Method, float] = {"lora": 1e-4, "full": 2e-6}
"""Learning rates of preference training, which goes wrong sooner than tuning on answers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe with its reasons. ``seconds`` is measured, not guessed, once :func:`time_plan` has filled it."""

    recipe: Recipe
    reasons: tuple[str, ...]
    rows: int
    tokens_per_epoch: int
    trainable: int
    seconds: float | None = None


def choose_recipe(
    config: ModelConfig,
    train: Sequence[Example],
    *,
    method: Method = "lora",
    labels: bool = False,
    rank: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    precision: Precision | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Plan:
    """The recipe for these rows. What is given stays as it is; the rest follows from the data.

    ``labels`` says that the answers are labels out of a fixed set.
    """
    rows = len(train)
    prefix = len(common_prefix(train))
    tokens = sum(len(row) - prefix for row in train)
    reasons: list[str] = []

    batch = 8 if rows < 400 else 16 if rows < 2000 else 32
    reasons.append(f"{batch} rows a step: {rows:,} rows give {-(-rows // batch):,} steps an epoch")
    pairs = rows > 0 and isinstance(train[0], Pair)
    if pairs:
        reasons.append("pairs of answers: direct preference optimisation, held to the base")
        epochs = 2 if epochs is None else epochs
        learning_rate = PAIR_RATES[method] if learning_rate is None else learning_rate
    if epochs is None:
        epochs = max(3, min(8, round(SEEN / max(1, rows))))
        reasons.append(
            f"{epochs} epochs: few rows are seen more often; tuning ends early when the held-back part says so"
        )
    if rank is None:
        rank = 16
        if method == "lora":
            reasons.append(f"rank {rank}: enough for one task in every tuning that was measured here")
    if learning_rate is None:
        learning_rate = 5e-5 if method == "full" else 2e-3 if labels else 1e-3
        reasons.append(f"learning rate {learning_rate:g}, after a warm-up falling to zero")
    if precision is None:
        precision = _precision(method, config)
        reasons.append(f"{precision}: " + _WHY[precision])
    noise, smoothing = (5.0, 0.1) if labels and method == "lora" else (0.0, 0.0)
    if noise:
        reasons.append(
            f"noise {noise:g} on the input and {smoothing:g} of the target spread: labels are soon known by heart"
        )
    reading = 0.03 if noise and rows < FEW else 0.0
    if reading:
        reasons.append(f"the rows' own words weigh {reading:g} in the loss: few labels teach little about the language")
    recipe = Recipe(
        method=method,
        reading=reading,
        noise=noise,
        smoothing=smoothing,
        rank=rank,
        alpha=float(rank),
        precision=precision,
        learning_rate=learning_rate,
        batch_rows=batch,
        epochs=epochs,
        seed=seed,
        threads=threads or torch.get_num_threads(),
    )
    trainable = config.parameter_count() if method == "full" else _adapter_size(config, rank)
    reasons.append(f"{trainable:,} numbers are trained, {trainable / config.parameter_count():.1%} of the model")
    return Plan(recipe, tuple(reasons), rows, tokens + prefix * -(-rows // batch), trainable)


def within(plan: Plan, seconds: float) -> Plan:
    """The plan with as many steps as fit ``seconds``; needs a measured plan.

    Raises :class:`~empu.errors.UsageError` when not even one epoch fits, with the time that one takes.
    """
    assert plan.seconds is not None
    if plan.seconds <= seconds:
        return plan
    per_epoch = plan.seconds / plan.recipe.epochs
    epochs = int(seconds // per_epoch)
    if epochs < 1:
        raise UsageError(
            f"One pass over the rows takes about {per_epoch:.0f} s on this machine and the budget is {seconds:.0f} s; "
            "give more time, or fewer rows."
        )
    reason = f"{epochs} of {plan.recipe.epochs} epochs: more do not fit the budget of {seconds:.0f} s"
    recipe = replace(plan.recipe, epochs=epochs)
    return replace(plan, recipe=recipe, reasons=(*plan.reasons, reason), seconds=per_epoch * epochs)


_WHY: dict[Precision, str] = {
    "float32": "every weight is trained, and small changes need all digits",
    "bfloat16": "this processor multiplies 16-bit numbers several times as fast as 32-bit ones",
    "int8": "frozen weights are multiplied in 8 bits, adapters and all that is trained in 32",
}


def _precision(method: Method, config: ModelConfig) -> Precision:
    if method == "full":
        return "float32"
    if torch.cuda.is_available():
        return "bfloat16"
    if fits(config):
        return "int8"
    return "bfloat16" if _fast_bfloat16() else "float32"


def _fast_bfloat16() -> bool:
    capability = torch.cpu.get_capabilities()
    return bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))


def _adapter_size(config: ModelConfig, rank: int) -> int:
    attention = 2 * (config.dim + config.q_dim) + 2 * (config.dim + config.kv_dim)
    feed_forward = 3 * (config.dim + config.ffn_dim)
    return config.n_layers * rank * (attention + feed_forward)


def prepare(model: Transformer, recipe: Recipe) -> Transformer:
    """Make a loaded float32 model ready for a recipe (changed in place): adapters attached, or everything trainable."""
    if recipe.method == "full":
        return model.requires_grad_(True)
    dtype = torch.bfloat16 if recipe.precision == "bfloat16" or _fast_bfloat16() else torch.float32
    adapters: dict[str, Any] = {
        "rank": recipe.rank,
        "alpha": recipe.alpha,
        "targets": recipe.targets,
        "seed": recipe.seed,
    }
    if recipe.precision == "int8":
        return attach_native(model, **adapters, dtype=dtype, threads=recipe.threads)
    return attach(model, **adapters, dtype=torch.float32 if recipe.precision == "float32" else dtype)


def time_plan(plan: Plan, model: Transformer, train: Sequence[Example], *, steps: int = 3) -> Plan:
    """Measure a few steps on a prepared ``model``, whose weights and optimiser are put back, and fill ``seconds``.

    The rows are spread over the lengths that occur.
    """
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    order = sorted(range(len(train)), key=lambda i: len(train[i]))
    count = min(len(order), plan.recipe.batch_rows * steps)
    sample = [train[order[i * len(order) // count]] for i in range(count)]
    kind = PreferenceTrainer if isinstance(train[0], Pair) else Trainer
    trainer = kind(model, sample, [], replace(plan.recipe, epochs=1, max_steps=steps))
    begun = time.perf_counter()
    marks: list[float] = []
    trainer.run(lambda progress: marks.append(time.perf_counter() - begun))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in before:
                parameter.copy_(before[name])
    # The first step also warms the caches and is not typical.
    pace = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else marks[0]
    total = Trainer.count_steps(plan.rows, plan.recipe)
    return replace(plan, seconds=pace * total)
