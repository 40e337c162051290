"""How ``empu tune`` tells what it does: what was found, the plan, a live bar, one table at the end."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empu.cli import output
from empu.cli.loading import stopped_by_ctrl_c
from empu.cli.model_card import score_facts
from empu.errors import StoreError, UsageError
from empu.evals.systems import table
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.specialist import pipeline
from empu.specialist.dataset import Prepared, prepare_rows
from empu.specialist.loss_curve import FOLDER
from empu.specialist.pipeline import Made
from empu.specialist.plan import Ready, Wishes, check_wishes, make_ready, plan_with_time
from empu.specialist.reproduce import Repeated, retrain
from empu.store.store import Store, StoredModel
from empu.tune.plan import Plan

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from empu.tune.trainer import Progress

TIMES = {"s": 1, "m": 60, "h": 3600}
LINE_EVERY, QUIET_S = 20, 20.0
"""Steps, and for questions seconds, between two lines where no terminal watches."""


def seconds_of(text: str | None) -> float | None:
    """``90s``, ``10m``, ``2h`` in seconds."""
    if text is None:
        return None
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())):
        raise UsageError(f"--budget is {text!r}; give a time such as 90s, 10m or 2h.")
    return float(match[1]) * TIMES[match[2]]


def mapping_of(text: str | None) -> dict[str, str] | None:
    """``text=body,label=queue`` as a dictionary."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and sign and column for name, sign, column in pairs):
        raise UsageError(f"--map is {text!r}; write FIELD=COLUMN, several with commas: text=body,label=queue.")
    return {name.strip(): column.strip() for name, _, column in pairs}


def show_plan(data: Path, given: Mapping[str, Any]) -> Plan:
    """Everything up to the first step, with the time measured."""
    store = Store.of_user()
    prepared, ready = _begin(store, data, given)
    plan = ready.plan if ready.plan.seconds is not None else plan_with_time(ready)
    _say_plan(plan, prepared)
    output.say("Nothing was tuned: this was the plan.")
    return plan


def make_specialist(data: Path, given: Mapping[str, Any], command: str | None = None) -> Made:
    """The whole job. ``command`` is what goes on after a stop."""
    store = Store.of_user()
    prepared, ready = _begin(store, data, given)
    _say_plan(ready.plan, prepared)
    listener = Watcher(given["name"])
    with stopped_by_ctrl_c(listener), listener:
        return pipeline.make(store, prepared, ready, replace(_wishes(given), command=command), listener)


def repeat(store: Store, model: StoredModel) -> Repeated:
    """``empu verify --retrain``: the recorded run once more."""
    if not store.ledger_path.is_file():
        raise StoreError("There is no ledger in this store, so there is no run to repeat.")
    listener = Watcher(model.name or model.record.id[:12])
    with Ledger.open(store.ledger_path) as ledger, stopped_by_ctrl_c(listener), listener:
        return retrain(store, ledger, model, listener)


def show_result(made: Made) -> None:
    """The table, what it means, and what to type next."""
    name = made.model.name or made.model.record.id[:12]
    if made.comparison is not None:
        comparison = made.comparison
        metrics = list(comparison.specialist.metrics)
        headings = ["system", *[f"{metric} (95 %)" for metric in metrics], "per answer", "on disk"]
        rows = [list(row) for row in table(comparison)]
        if output.is_narrow():  # the first metric alone; the others are in the card
            headings, *rows = (row[:2] + row[1 + len(metrics) :] for row in (headings, *rows))
        output.table(headings, rows)
        output.say("")
        output.say(comparison.sentence())
        if comparison.scope is not None:
            output.say(comparison.scope.sentence())
    elif found := score_facts(Store.of_user().ledger_path, made.model):
        output.facts(found)
    if (curve := made.model.folder / FOLDER / "curve.png").is_file():
        output.say(f"How the loss fell: {curve}")
    output.say(
        f"{name} is in the store: {tagged(made.model.record.id)}, {output.size(made.model.record.size)}"
        + (" beside its base." if made.model.record.base is not None else ", a model of its own.")
    )
    output.say(f"Try: empu run {name} 'TEXT'   empu show {name}   empu trace {name}")


def document(made: Made) -> dict[str, Any]:
    """``empu tune --json``."""
    comparison = made.comparison
    return {
        "name": made.model.name,
        "id": tagged(made.model.record.id),
        "base": made.model.record.source.address,
        "is_new": made.is_new,
        "path": str(made.model.path),
        "curve": str(made.model.folder / FOLDER),
        "tuning": dataclasses.asdict(made.tuned) if made.tuned is not None else None,
        "comparison": {
            "sentence": comparison.sentence(),
            "p_values": dict(comparison.p_values),
            "out_of_scope": dataclasses.asdict(comparison.scope) if comparison.scope is not None else None,
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


def plan_document(plan: Plan) -> dict[str, Any]:
    """``empu tune --plan --json``."""
    return {
        "recipe": plan.recipe.to_json(),
        "reasons": list(plan.reasons),
        "rows": plan.rows,
        "tokens_per_epoch": plan.tokens_per_epoch,
        "trainable": plan.trainable,
        "seconds": plan.seconds,
    }


class Watcher:
    """Bars on a terminal, a line now and then otherwise. Asked to stop, it remembers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._asked_to_stop = False
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._told = time.monotonic()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def cancel(self) -> None:
        self._asked_to_stop = True
        self.say("Stopping after this step or question …")

    def stopped(self) -> bool:
        return self._asked_to_stop

    def say(self, sentence: str) -> None:
        self._close()
        output.say(sentence)

    def tuning(self, progress: Progress) -> None:
        what = f"tuning {self.name}: loss {progress.loss:.3f}, {progress.tokens_per_s:,.0f} tokens/s"
        self._advance("tuning", what, progress.step, progress.steps)
        if progress.dev_loss is not None:
            self.say(f"epoch {progress.epoch}: loss {progress.dev_loss:.4f} on the development rows")
        elif self._bar is None and progress.step % LINE_EVERY == 0:
            left = duration(progress.seconds_left)
            output.say(f"step {progress.step:,} of {progress.steps:,}: {what.split(': ')[1]}, {left} left")

    def scoring(self, name: str, done: int, total: int) -> None:
        self._advance(name, f"asking {name}", done, total)
        if done == total:
            self._close()
        elif self._bar is None and time.monotonic() - self._told > QUIET_S:
            output.say(f"asking {name}: {done:,} of {total:,}")
            self._told = time.monotonic()

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
    """For people: 45 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _begin(store: Store, data: Path, given: Mapping[str, Any]) -> tuple[Prepared, Ready]:
    wishes = _wishes(given)
    check_wishes(store, wishes)
    prepared = prepare_rows(
        store,
        wishes.base,
        data,
        test=given["test"],
        mapping=mapping_of(given["mapping"]),
        licence=given["licence"],
        keep_near_duplicates=given["keep_near_duplicates"],
        out_of_scope=given["out_of_scope"],
    )
    for line in prepared.lines():
        output.say(output.harmless(line))
    return prepared, make_ready(store, prepared, wishes)


def _say_plan(plan: Plan, prepared: Prepared) -> None:
    output.say(f"Plan for {plan.rows:,} rows ({plan.tokens_per_epoch:,} tokens an epoch):")
    for reason in plan.reasons:
        output.say(f"  {reason}")
    if plan.seconds is not None:
        output.say(f"  about {duration(plan.seconds)} of tuning on this machine (measured on its first steps)")


def _wishes(given: Mapping[str, Any]) -> Wishes:
    return Wishes(
        name=given["name"],
        base=given["base"],
        method=given["method"],
        rank=given["rank"],
        epochs=given["epochs"],
        learning_rate=given["learning_rate"],
        precision=given["precision"],
        seed=given["seed"],
        threads=given["threads"],
        engine=given["engine"],
        compare=not given["no_compare"],
        budget=seconds_of(given["budget"]),
        replace=given["replace"],
    )
