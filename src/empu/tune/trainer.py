"""The training loop: fixed order of rows, fixed order of sums, and resuming with the same bits as an unbroken run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor, nn

from empu.errors import CancelledError, UsageError
from empu.model.transformer import Transformer
from empu.tune.batches import common_prompt_prefix, epoch_batches
from empu.tune.objectives.objective import E, Objective
from empu.tune.recipe import Recipe
from empu.tune.training_state import Counters, TrainingState, load_state, save_state, trainable_parameters

SPEED_WINDOW_STEPS = 20
"""Speed and time left are shown from this many last steps of this process; the record has the whole run's average."""
MIN_CHECKPOINT_INTERVAL_S, MAX_CHECKPOINT_INTERVAL_S = 30.0, 60.0
"""Interval between checkpoints: 20 times the time that writing one takes, within these bounds."""


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Progress after a step, to show to people."""

    step: int
    steps: int
    epoch: int
    rows: int
    tokens: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    seconds: float
    seconds_left: float
    dev_loss: float | None = None
    """Loss on the validation rows, after the last step of an epoch."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Result of a finished run. The model holds the weights of ``best_epoch``."""

    steps: int
    tokens: int
    seconds: float
    losses: tuple[float, ...]
    """One per step."""
    dev_losses: tuple[float, ...]
    """On the validation rows, one per epoch."""
    best_epoch: int | None
    resumed_from: int
    """The step at which this process resumed; 0 for an unbroken run."""


class Trainer(Generic[E]):
    """Trains the parameters of a model that require a gradient, on examples, by a recipe."""

    def __init__(
        self,
        model: Transformer,
        objective: Objective[E],
        train: Sequence[E],
        dev: Sequence[E],
        recipe: Recipe,
        *,
        folder: Path | None = None,
        identity: str = "",
    ) -> None:
        """``model`` is still untrained. ``folder`` holds the checkpoint of an unfinished run called ``identity``.

        Raises :class:`UsageError` without training examples, and :class:`~empu.errors.CheckpointError` if ``folder``
        belongs to another run.
        """
        if not train:
            raise UsageError("There are no training rows; every row was excluded, for the reasons listed above.")
        self.model = model
        self.objective = objective
        self.train = objective.prepare(model, train)
        self.dev = objective.prepare(model, dev)
        self.recipe = recipe
        self.prefix = common_prompt_prefix(chain(train, dev))
        self.parameters: dict[str, nn.Parameter] = trainable_parameters(model)
        self.counters = Counters()
        self._folder = folder
        self._identity = identity
        self._optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=recipe.learning_rate,
            betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self._best: dict[str, Tensor] = {}
        self._noise = torch.Generator()
        self._recent_steps: deque[tuple[float, int]] = deque(maxlen=SPEED_WINDOW_STEPS)
        """(seconds, tokens) of the last steps."""
        self._saved_at, self._checkpoint_interval = time.monotonic(), MIN_CHECKPOINT_INTERVAL_S
        if folder is not None and (state := load_state(folder, identity)) is not None:
            self._restore(state)
        self.resumed_from = self.counters.step

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.count_steps(len(self.train), self.recipe)

    @staticmethod
    def count_steps(rows: int, recipe: Recipe) -> int:
        """Return the number of optimiser steps for this many examples."""
        steps = -(-rows // recipe.batch_size) * recipe.epochs
        return steps if recipe.max_steps is None else min(steps, recipe.max_steps)

    def run(
        self,
        on_step: Callable[[TrainProgress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> TrainResult:
        """Train to the end. If ``should_stop``, write a checkpoint and raise :class:`CancelledError`."""
        if self.recipe.threads is not None:
            torch.set_num_threads(self.recipe.threads)
        self.model.train()
        counters = self.counters
        while not counters.finished:
            for progress in self._epoch():
                on_step(progress)
                if should_stop():
                    self._save()
                    raise CancelledError("Stopped. Run the same command again to resume.")
                if time.monotonic() - self._saved_at > self._checkpoint_interval:
                    self._save()
        if self._best:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(self._best[name])
        self.model.eval()
        return TrainResult(
            steps=counters.step,
            tokens=counters.tokens,
            seconds=counters.seconds,
            losses=tuple(counters.losses),
            dev_losses=tuple(counters.dev_losses),
            best_epoch=counters.best_epoch,
            resumed_from=self.resumed_from,
        )

    def dev_loss(self) -> float:
        """Return the mean loss on the validation rows."""
        total, count = 0.0, 0
        with torch.no_grad():
            by_length = sorted(range(len(self.dev)), key=lambda i: len(self.dev[i]))
            for micro_batch in self._micro_batches(self.dev[i] for i in by_length):
                total += float(self.objective.summed_loss(self.model, micro_batch, self.prefix, None)[0])
                count += self.objective.normaliser(micro_batch)
        return total / max(1, count)

    def train_step(self, batch: Sequence[E], learning_rate: float) -> tuple[float, int]:
        """Do one optimiser step; return the mean loss and the number of tokens computed."""
        normaliser = self.objective.normaliser(batch)
        total_loss, total_tokens = 0.0, 0
        self._noise.manual_seed(self.recipe.seed * 1_000_003 + self.counters.step)
        for micro_batch in self._micro_batches(batch):
            summed, tokens = self.objective.summed_loss(self.model, micro_batch, self.prefix, self._noise)
            loss = summed / normaliser
            loss.backward()  # type: ignore[no-untyped-call]
            total_loss += float(loss.detach())
            total_tokens += tokens
        nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total_loss, total_tokens

    def _epoch(self) -> Iterator[TrainProgress]:
        counters, recipe = self.counters, self.recipe
        batches = epoch_batches(self.train, recipe.batch_size, recipe.seed, counters.epoch)
        while True:
            start = time.perf_counter()
            learning_rate = recipe.learning_rate_at(counters.step, self.steps)
            loss, tokens = self.train_step([self.train[i] for i in batches[counters.batch]], learning_rate)
            seconds = time.perf_counter() - start
            self._recent_steps.append((seconds, tokens))
            counters.seconds += seconds
            counters.step += 1
            counters.batch += 1
            counters.tokens += tokens
            counters.losses.append(loss)
            is_last = counters.batch == len(batches) or counters.step == self.steps
            yield self._progress(loss, learning_rate, self._end_epoch() if is_last else None)
            if is_last:
                return

    def _end_epoch(self) -> float | None:
        """Compute the validation loss, keep the best weights, and decide whether to stop early."""
        counters = self.counters
        start = time.perf_counter()
        loss = self.dev_loss() if self.dev else None
        if loss is not None:
            if not counters.dev_losses or loss < min(counters.dev_losses):
                counters.best_epoch = counters.epoch
                self._best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
            counters.dev_losses.append(loss)
        counters.seconds += time.perf_counter() - start
        counters.epoch += 1
        counters.batch = 0
        since_best = counters.epoch - 1 - counters.best_epoch if counters.best_epoch is not None else 0
        counters.finished = counters.step >= self.steps or since_best >= self.recipe.patience
        self._save()
        return loss

    def _micro_batches(self, examples: Iterable[E]) -> Iterator[list[E]]:
        """Split examples, in order, into parts of at most ``micro_batch_tokens`` tokens."""
        micro_batch: list[E] = []
        tokens = 0
        for example in examples:
            length = len(example) - len(self.prefix)
            if micro_batch and tokens + length > self.recipe.micro_batch_tokens:
                yield micro_batch
                micro_batch, tokens = [], 0
            micro_batch.append(example)
            tokens += length
        if micro_batch:
            yield micro_batch

    def _progress(self, loss: float, learning_rate: float, dev_loss: float | None) -> TrainProgress:
        counters = self.counters
        seconds = sum(seconds for seconds, _ in self._recent_steps)
        tokens = sum(tokens for _, tokens in self._recent_steps)
        return TrainProgress(
            step=counters.step,
            steps=self.steps,
            epoch=counters.epoch,
            rows=min(counters.step * self.recipe.batch_size, self.recipe.epochs * len(self.train)),
            tokens=counters.tokens,
            loss=loss,
            learning_rate=learning_rate,
            tokens_per_s=tokens / max(seconds, 1e-9),
            seconds=counters.seconds,
            seconds_left=seconds / len(self._recent_steps) * (self.steps - counters.step),
            dev_loss=dev_loss,
        )

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self._folder is None:
            return
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            tensors[f"weight/{name}"] = parameter
            if moments := self._optimizer.state.get(parameter):
                tensors[f"first/{name}"] = moments["exp_avg"]
                tensors[f"second/{name}"] = moments["exp_avg_sq"]
        tensors.update((f"best/{name}", tensor) for name, tensor in self._best.items())
        save_state(self._folder, self.counters, tensors, self._identity)
        write_seconds = time.monotonic() - self._saved_at
        self._checkpoint_interval = min(max(MIN_CHECKPOINT_INTERVAL_S, 20 * write_seconds), MAX_CHECKPOINT_INTERVAL_S)

    def _restore(self, state: TrainingState) -> None:
        self.counters = state.counters
        weights, first, second = (state.tensors(group) for group in ("weight", "first", "second"))
        self._best = state.tensors("best")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                if name in first:
                    self._optimizer.state[parameter] = {
                        "step": torch.tensor(float(self.counters.step)),
                        "exp_avg": first[name],
                        "exp_avg_sq": second[name],
                    }
