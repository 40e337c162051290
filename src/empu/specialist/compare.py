"""The contestants of the comparison, asked on the held-out rows, and their scores in the ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from empu.data.rows import Kind, Row
from empu.engine.language_model import LanguageModel, open_model
from empu.errors import CancelledError
from empu.evals import systems as scoring
from empu.evals.out_of_scope import FEWEST, choose_threshold, measure
from empu.evals.systems import Comparison, System
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.records import Evaluation, Metric, Outcome, this_machine
from empu.specialist.dataset import Prepared
from empu.specialist.plan import Listener, Ready, Wishes
from empu.store.store import StoredModel
from empu.text.task import Task


def _open(ready: Ready, wishes: Wishes, folder: Path | None) -> LanguageModel:
    """The base, or the specialist in ``folder``."""
    whole = folder is not None and ready.plan.recipe.method == "full"
    path, adapter = (folder, None) if whole and folder is not None else (ready.base.path, folder)
    return open_model(path, adapter=adapter, engine=wishes.engine, threads=wishes.threads)


def calibrated(
    ready: Ready, prepared: Prepared, folder: Path, wishes: Wishes, listener: Listener
) -> tuple[Task, Metric]:
    """The task with confidences fitted to the development rows, and the accuracy on them."""
    dev = prepared.dev
    counted = _counter(listener, "calibration", len(dev))
    model = _open(ready, wishes, folder)
    system = scoring.label_system("calibration", model, ready.task, dev, 0, counted)
    fitted = scoring.calibrate(system.confidences, system.correct)
    task = replace(ready.task, calibration=fitted)
    if prepared.outside or prepared.outside_test:
        inside = [task.confidence(p) for p in system.confidences]
        threshold = choose_threshold(inside, _confidences(model, task, prepared.outside))
        if threshold is None:
            listener.say(
                f"Nothing is refused as out of scope: to choose a threshold takes {FEWEST} rows of either kind "
                f"outside the test part, and there are {len(prepared.outside)} out of scope and {len(inside)} others."
            )
        task = replace(task, threshold=threshold)
    return task, system.metrics["accuracy"]


def _confidences(model: LanguageModel, task: Task, rows: Sequence[Row]) -> list[float]:
    """How sure a model is of its label for each row."""
    asked = scoring.replace_task(model, task)
    return [found[0].confidence for found in asked.classify([row.question() for row in rows])]


def compare(ready: Ready, prepared: Prepared, made: StoredModel, wishes: Wishes, listener: Listener) -> Comparison:
    rows, train = prepared.test, prepared.train
    size = ready.base.record.size
    base = _open(ready, wishes, None)
    specialist = _open(ready, wishes, made.path)
    assert specialist.task is not None
    pairs = prepared.kind is Kind.PREFERENCE
    score = (
        scoring.preference_system
        if pairs
        else scoring.label_system
        if ready.task.kind == "label"
        else scoring.text_system
    )
    asked = scoring.base_task(ready.task)
    contestants = {"base, no examples": asked}
    shown = scoring.few_shot(asked, train) if prepared.kind in (Kind.LABEL, Kind.COMPLETION) else asked
    if shown.shots and scoring.fits(base, shown, rows):
        contestants[f"base, {len(shown.shots)} examples"] = shown
    systems = [
        score(name, base, task, rows, size, _counter(listener, name, len(rows))) for name, task in contestants.items()
    ]
    if ready.task.kind == "label":
        listener.say("Fitting the linear baselines …")
        systems += scoring.linear_systems(train, rows, seed=ready.plan.recipe.seed)
    elif ready.task.schema is not None:
        listener.say("Fitting the line tagger …")
        systems.append(scoring.tagger_system(ready.task, train, rows, seed=ready.plan.recipe.seed))
    counted = _counter(listener, wishes.name, len(rows))
    own_size = made.record.size + (size if made.record.base is not None else 0)
    systems.append(score(wishes.name, specialist, specialist.task, rows, own_size, counted))
    if pairs:
        systems[-1] = scoring.with_gain(systems[0], systems[-1])
    comparison = scoring.compare(systems)
    threshold = specialist.task.threshold
    if threshold is not None and prepared.outside_test:
        ours, outside = systems[-1], _confidences(specialist, specialist.task, prepared.outside_test)
        comparison = replace(comparison, scope=measure(threshold, ours.confidences, ours.correct, outside))
    return comparison


def _counter(listener: Listener, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        if listener.stopped():
            raise CancelledError("Stopped while comparing; the same command goes on from here.")
        done += more
        listener.scoring(name, done, total)

    return count


def record_scores(ledger: Ledger, prepared: Prepared, made: StoredModel, ready: Ready, comparison: Comparison) -> None:
    """Every contestant's metrics and answers. Baselines stand under their name."""
    with ledger.transaction():
        dataset = ledger.run(ledger.model(made.record.id).run or "").dataset
        for system in comparison.systems:
            ledger.add_evaluation(
                Evaluation(
                    made.record.id if system is comparison.specialist else _baseline(system, ready),
                    dataset,
                    "test",
                    system.metrics,
                    _settings(system, comparison, ready),
                    this_machine(),
                ),
                (
                    Outcome(row.id, answer, right)
                    for row, answer, right in zip(prepared.test, system.answers, system.correct, strict=True)
                ),
            )


def _baseline(system: System, ready: Ready) -> str:
    """The name under which a baseline's scores stand: it belongs to this run alone."""
    return f"{system.name} ({tagged(ready.identity[:12])})"


def _settings(system: System, comparison: Comparison, ready: Ready) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": system.name,
        "ms_per_answer": system.ms_per_answer,
        "size_bytes": system.size_bytes,
    }
    if system is comparison.specialist:
        said["sentence"] = comparison.sentence()
        said["against"] = [_baseline(other, ready) for other in comparison.systems[:-1]]
        said["p_values"] = dict(comparison.p_values)
        if comparison.scope is not None:
            said["out_of_scope"] = dataclasses.asdict(comparison.scope) | {"sentence": comparison.scope.sentence()}
    return said
