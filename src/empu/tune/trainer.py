"""The loop that changes weights: fixed order of rows, fixed order of sums, stopped and resumed without a trace."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from empu.errors import CancelledError, UsageError
from empu.model.transformer import Transformer
from empu.tune.batches import Batch, Example, common_prefix, epoch_batches
from empu.tune.cross_entropy import cross_entropy
from empu.tune.recipe import Recipe
from empu.tune.training_state import Counters, as_tensors, load_state, save_state, trained

SAVE_SECONDS, SAVE_AT_MOST = 30.0, 60.0
"""How much work a stop at any moment loses at most: the first where writing the state takes little time, more where it
takes more than a twentieth, never more than the second.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for people."""

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run gave. The model holds the weights of ``best_epoch``."""

    steps: int
    tokens: int
    seconds: float
    losses: tuple[float, ...]
    dev_losses: tuple[float, ...]
    best_epoch: int | None
    resumed_from: int
    """The step at which this process began; 0 for an unbroken run."""


class Trainer:
    """Tunes what ``requires_grad`` in a model, on rows, by a recipe."""

    def __init__(
        self,
        model: Transformer,
        train: Sequence[Example],
        dev: Sequence[Example],
        recipe: Recipe,
        *,
        folder: Path | None = None,
        identity: str = "",
    ) -> None:
        """``folder`` keeps the state of an unfinished run; ``identity`` says which run it belongs to.

        Raises :class:`UsageError` without rows, and :class:`~empu.errors.CheckpointError` for another run's folder.
        """
        if not train:
            raise UsageError("There is no row to tune on; every one was excluded, for the reasons listed above.")
        self.model = model
        self.train = train
        self.dev = dev
        self.recipe = recipe
        self.prefix = common_prefix(chain(train, dev))
        self.parameters: dict[str, nn.Parameter] = trained(model)
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
        self._random = torch.Generator()
        mean_length = sum(map(len, train)) / len(train)
        self._noise_size = recipe.noise / math.sqrt(mean_length * model.config.dim)
        self._saved_at, self._save_every = time.monotonic(), SAVE_SECONDS
        if folder is not None and (state := load_state(folder, identity)) is not None:
            self.counters = state.counters
            self._restore(state.arrays)
        self.resumed_from = self.counters.step

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.count_steps(len(self.train), self.recipe)

    @staticmethod
    def count_steps(rows: int, recipe: Recipe) -> int:
        """Optimiser steps that ``rows`` rows give."""
        whole = -(-rows // recipe.batch_rows) * recipe.epochs
        return whole if recipe.max_steps is None else min(whole, recipe.max_steps)

    def run(
        self,
        report: Callable[[Progress], None] = lambda progress: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Tune to the end. When ``stopped`` says so the state is saved and :class:`CancelledError` raised."""
        if self.recipe.threads is not None:
            torch.set_num_threads(self.recipe.threads)
        self.model.train()
        counters = self.counters
        while not counters.finished:
            for progress in self._epoch():
                report(progress)
                if stopped():
                    self._save()
                    raise CancelledError("Stopped; the same command goes on from here.")
                if time.monotonic() - self._saved_at > self._save_every:
                    self._save()
        if self._best:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(self._best[name])
        self.model.eval()
        return Outcome(
            steps=counters.step,
            tokens=counters.tokens,
            seconds=counters.seconds,
            losses=tuple(counters.losses),
            dev_losses=tuple(counters.dev_losses),
            best_epoch=counters.best_epoch,
            resumed_from=self.resumed_from,
        )

    def dev_loss(self) -> float:
        """Mean loss over the answers' tokens of the development rows."""
        total, count = 0.0, 0
        with torch.no_grad():
            for part in self._parts(sorted(range(len(self.dev)), key=lambda i: len(self.dev[i])), self.dev):
                total += float(self.sum_of_losses(part)[0])
                count += self.weight(part)
        return total / max(1, count)

    def _epoch(self) -> Iterator[Progress]:
        counters, recipe = self.counters, self.recipe
        batches = epoch_batches(self.train, recipe.batch_rows, recipe.seed, counters.epoch)
        while True:
            begun = time.perf_counter()
            rate = recipe.rate(counters.step, self.steps)
            loss, tokens = self._step([self.train[i] for i in batches[counters.batch]], rate)
            counters.seconds += time.perf_counter() - begun
            counters.step += 1
            counters.batch += 1
            counters.tokens += tokens
            counters.losses.append(loss)
            last = counters.batch == len(batches) or counters.step == self.steps
            yield self._progress(loss, rate, self._close_epoch() if last else None)
            if last:
                return

    def _close_epoch(self) -> float | None:
        """Judge the epoch on the development rows, keep the best weights, decide whether to go on."""
        counters = self.counters
        begun = time.perf_counter()
        loss = self.dev_loss() if self.dev else None
        if loss is not None:
            if not counters.dev_losses or loss < min(counters.dev_losses):
                counters.best_epoch = counters.epoch
                self._best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
            counters.dev_losses.append(loss)
        counters.seconds += time.perf_counter() - begun
        counters.epoch += 1
        counters.batch = 0
        since_best = counters.epoch - 1 - counters.best_epoch if counters.best_epoch is not None else 0
        counters.finished = counters.step >= self.steps or since_best >= self.recipe.patience
        self._save()
        return loss

    def _step(self, rows: Sequence[Example], rate: float) -> tuple[float, int]:
        """One optimiser step; gives the mean loss of the answers' tokens and the tokens computed."""
        weight = self.weight(rows)
        total, tokens = 0.0, 0
        self._random.manual_seed(self.recipe.seed * 1_000_003 + self.counters.step)
        for part in self._parts(range(len(rows)), rows):
            summed, computed = self.sum_of_losses(part, training=True)
            loss = summed / weight
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            tokens += computed
        nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total, tokens

    def weight(self, rows: Sequence[Example]) -> int:
        """What the sum of the rows' losses is divided by: their answers' tokens."""
        return sum(len(row.answer) for row in rows)

    def sum_of_losses(self, rows: Sequence[Example], *, training: bool = False) -> tuple[Tensor, int]:
        """The loss over the answers of ``rows``, summed over tokens, and the tokens computed.

        While ``training`` the recipe's noise and smoothing make rows harder to learn by heart, and the prompts' own
        tokens weigh in as its ``reading`` says.
        """
        batch = Batch.of(rows, self.prefix)
        x = self.model.embedding(batch.tokens)
        if training and self.recipe.noise:
            noise = torch.rand(x.shape, generator=self._random) * 2 - 1
            x = x + (noise * self._noise_size).to(x.device, x.dtype)
        hidden = self.model.hidden_of(x, batch.attend.positions(), batch.attend)
        weight = self.model.output_weight
        smoothing = self.recipe.smoothing if training else 0.0
        loss = cross_entropy(hidden[batch.read], weight, batch.targets, smoothing).sum()
        if training and self.recipe.reading:
            read = cross_entropy(hidden[batch.prompt_read], weight, batch.prompt_targets).sum()
            loss = loss + self.recipe.reading * read
        return loss, len(batch.tokens)

    def _parts(self, order: Sequence[int], rows: Sequence[Example]) -> Iterator[list[Example]]:
        part: list[Example] = []
        size = 0
        for i in order:
            length = len(rows[i]) - len(self.prefix)
            if part and size + length > self.recipe.micro_tokens:
                yield part
                part, size = [], 0
            part.append(rows[i])
            size += length
        if part:
            yield part

    def _progress(self, loss: float, rate: float, dev_loss: float | None) -> Progress:
        counters = self.counters
        pace = counters.seconds / counters.step
        return Progress(
            step=counters.step,
            steps=self.steps,
            epoch=counters.epoch,
            rows=min(counters.step * self.recipe.batch_rows, self.recipe.epochs * len(self.train)),
            tokens=counters.tokens,
            loss=loss,
            learning_rate=rate,
            tokens_per_s=counters.tokens / max(counters.seconds, 1e-9),
            seconds=counters.seconds,
            seconds_left=pace * (self.steps - counters.step),
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
        taken = time.monotonic() - self._saved_at
        self._save_every = min(max(SAVE_SECONDS, 20 * taken), SAVE_AT_MOST)

    def _restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        weights, first, second = (as_tensors(arrays, kind) for kind in ("weight", "first", "second"))
        self._best = as_tensors(arrays, "best")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                if name in first:
                    self._optimizer.state[parameter] = {
                        "step": torch.tensor(float(self.counters.step)),
                        "exp_avg": first[name],
                        "exp_avg_sq": second[name],
                    }
