"""Output of ``empu tune``: the rows, the plan, a progress bar, and a table of results."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empu.cli import output
from empu.cli.licence_questions import answer_questions
from empu.cli.loading import cancel_on_ctrl_c
from empu.cli.model_card import comparison_lines
from empu.errors import StoreError, UsageError
from empu.evals.comparison import table
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.specialist import pipeline
from empu.specialist.dataset import PreparedDataset, prepare_dataset
from empu.specialist.loss_curve import LOSS_CURVE_FOLDER
from empu.specialist.pipeline import TuneResult
from empu.specialist.plan import TunePlan, measure_plan, plan_tuning
from empu.specialist.reproduce import Reproduction, reproduce
from empu.specialist.request import TuneRequest, check_request
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.tune.recipe_plan import RecipePlan
from empu.tune.training_state import state_disk_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from empu.tune.trainer import TrainProgress

SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600}
STEPS_PER_LINE, SECONDS_PER_LINE = 20, 20.0
"""Interval of progress lines without a terminal: training steps, and seconds of evaluation."""


def parse_duration(text: str | None) -> float | None:
    """Parse ``90s``, ``10m`` or ``2h`` to seconds."""
    if text is None:
        return None
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())):
        raise UsageError(f"--budget is {text!r}; give a time such as 90s, 10m or 2h.")
    return float(match[1]) * SECONDS_PER_UNIT[match[2]]


def parse_mapping(text: str | None) -> dict[str, str] | None:
    """Parse ``text=body,label=queue`` to a dictionary."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and sign and column for name, sign, column in pairs):
        raise UsageError(f"--map is {text!r}; write FIELD=COLUMN, several with commas: text=body,label=queue.")
    return {name.strip(): column.strip() for name, _, column in pairs}


def print_plan(data: Path, options: Mapping[str, Any]) -> RecipePlan:
    """Print the plan with its expected time, measured on a few training steps."""
    store = Store.of_user()
    _, plan = _prepare(store, data, options)
    recipe_plan = measure_plan(plan)
    _print_plan(recipe_plan)
    output.message("This was the plan only; nothing was trained.")
    return recipe_plan


def run_tuning(data: Path, options: Mapping[str, Any], command: str | None = None) -> TuneResult:
    """Run the whole pipeline. ``command`` is the shell command that resumes it."""
    store = Store.of_user()
    dataset, plan = _prepare(store, data, options)
    _print_plan(plan.recipe_plan)
    request = replace(_tune_request(options), command=command)
    answer_questions(store, lambda: pipeline.licence_decision(store, dataset, plan, request))
    listener = TuneProgress(options["name"])
    with cancel_on_ctrl_c(listener), listener:
        return pipeline.tune(store, dataset, plan, request, listener)


def repeat(store: Store, model: StoredModel) -> Reproduction:
    """Repeat a recorded training run, for ``empu verify --retrain``."""
    if not store.ledger_path.is_file():
        raise StoreError("This store has no ledger, so there is no training run to repeat.")
    listener = TuneProgress(model.name or model.record.id[:12])
    with Ledger.open(store.ledger_path) as ledger, cancel_on_ctrl_c(listener), listener:
        return reproduce(store, ledger, model, listener)


def print_result(result: TuneResult) -> None:
    """Print the table of results, the conclusion, and the next commands."""
    name = result.model.name or result.model.record.id[:12]
    if result.comparison is not None:
        comparison = result.comparison
        metrics = list(comparison.specialist.metrics)
        headings = ["system", *[f"{metric} (95 %)" for metric in metrics], "time per answer", "size on disk"]
        rows = [list(row) for row in table(comparison)]
        if output.is_narrow():  # only the first metric; the model card has the others
            headings, *rows = (row[:2] + row[1 + len(metrics) :] for row in (headings, *rows))
        output.table(headings, rows)
        output.message("")
        output.message(comparison.sentence())
        for sentence in comparison.ensemble.sentences() if comparison.ensemble is not None else ():
            output.message(sentence)
        if comparison.out_of_scope is not None:
            output.message(comparison.out_of_scope.sentence())
    elif scores := comparison_lines(Store.of_user().ledger_path, result.model):
        output.key_values(scores)
    if (curve := result.model.folder / LOSS_CURVE_FOLDER / "curve.png").is_file():
        output.message(f"Loss curve: {curve}")
    output.message(
        f"Saved {name} in the store: {tagged(result.model.record.id)}, {output.format_bytes(result.model.record.size)}"
        + (" plus its base model." if result.model.record.base is not None else ", a complete model.")
    )
    output.message(f"Next: empu run {name} 'TEXT'   empu show {name}   empu trace {name}")


def result_document(result: TuneResult) -> dict[str, Any]:
    """Return the JSON document of ``empu tune --json``."""
    comparison = result.comparison
    return {
        "name": result.model.name,
        "id": tagged(result.model.record.id),
        "base": result.model.record.source.address,
        "is_new": result.is_new,
        "path": str(result.model.path),
        "curve": str(result.model.folder / LOSS_CURVE_FOLDER),
        "tuning": dataclasses.asdict(result.training) if result.training is not None else None,
        "comparison": {
            "sentence": comparison.sentence(),
            "p_values": dict(comparison.p_values),
            "out_of_scope": comparison.out_of_scope.to_json() if comparison.out_of_scope is not None else None,
            "ensemble": comparison.ensemble.to_json() if comparison.ensemble is not None else None,
            "systems": [
                {
                    "name": system.name,
                    "metrics": {name: dataclasses.asdict(metric) for name, metric in system.metrics.items()},
                    "ms_per_answer": system.ms_per_answer,
                    "size_bytes": system.size_bytes,
                }
                for system in comparison.systems
            ],
        }
        if comparison is not None
        else None,
    }


def plan_document(plan: RecipePlan) -> dict[str, Any]:
    """Return the JSON document of ``empu tune --plan --json``."""
    return {
        "recipe": plan.recipe.to_json(),
        "reasons": list(plan.reasons),
        "rows": plan.rows,
        "tokens_per_epoch": plan.tokens_per_epoch,
        "trainable": plan.trainable_parameters,
        "seconds": plan.seconds,
    }


class TuneProgress:
    """Shows progress: a bar on a terminal, otherwise a line from time to time. Records a request to stop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stop_requested = False
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._last_line = time.monotonic()

    def __enter__(self) -> TuneProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def cancel(self) -> None:
        self._stop_requested = True
        self.message("Stopping after the current step …")

    def should_stop(self) -> bool:
        return self._stop_requested

    def message(self, text: str) -> None:
        self._close()
        output.message(text)

    def on_step(self, progress: TrainProgress) -> None:
        what = f"tuning {self.name}: loss {progress.loss:.3f}, {progress.tokens_per_s:,.0f} tokens/s"
        self._advance("tuning", what, progress.step, progress.steps)
        if progress.dev_loss is not None:
            self.message(f"epoch {progress.epoch}: validation loss {progress.dev_loss:.4f}")
        elif self._bar is None and progress.step % STEPS_PER_LINE == 0:
            left = duration(progress.seconds_left)
            output.message(f"step {progress.step:,} of {progress.steps:,}: {what.split(': ')[1]}, {left} left")

    def on_answers(self, system: str, done: int, total: int) -> None:
        self._advance(system, f"evaluating {system}", done, total)
        if done == total:
            self._close()
        elif self._bar is None and time.monotonic() - self._last_line > SECONDS_PER_LINE:
            output.message(f"evaluating {system}: {done:,} of {total:,}")
            self._last_line = time.monotonic()

    def _advance(self, label: str, what: str, done: int, total: int) -> None:
        import sys

        if not output.is_terminal(sys.stderr):
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None or self._label != label:
            self._close()
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(what, total=total)
            self._label = label
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, description=what, completed=done)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def duration(seconds: float) -> str:
    """Format a duration: 45 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _prepare(store: Store, data: Path, options: Mapping[str, Any]) -> tuple[PreparedDataset, TunePlan]:
    request = _tune_request(options)
    check_request(store, request)
    dataset = prepare_dataset(
        store,
        request.base,
        data,
        test=options["test"],
        mapping=parse_mapping(options["mapping"]),
        encoding=options["encoding"],
        licence=options["licence"],
        keep_near_duplicates=options["keep_near_duplicates"],
        out_of_scope=options["out_of_scope"],
    )
    for line in dataset.lines():
        output.message(output.escape_controls(line))
    return dataset, plan_tuning(store, dataset, request)


def _print_plan(plan: RecipePlan) -> None:
    output.message(f"Plan for {plan.rows:,} rows ({plan.tokens_per_epoch:,} tokens per epoch):")
    for reason in plan.reasons:
        output.message(f"  {reason}")
    output.message(f"  {output.format_bytes(state_disk_bytes(plan.trainable_parameters))} of disk for its checkpoints")
    if plan.seconds is not None:
        output.message(f"  about {duration(plan.seconds)} of training on this machine (measured on a few steps)")


def _tune_request(options: Mapping[str, Any]) -> TuneRequest:
    return TuneRequest(
        name=options["name"],
        base=options["base"],
        method=options["method"],
        rank=options["rank"],
        epochs=options["epochs"],
        learning_rate=options["learning_rate"],
        precision=options["precision"],
        seed=options["seed"],
        threads=options["threads"],
        engine=options["engine"],
        members=options["members"],
        compare=not options["no_compare"],
        budget=parse_duration(options["budget"]),
        replace=options["replace"],
        policy=options["policy"],
    )
