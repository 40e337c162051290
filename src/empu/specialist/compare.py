"""Run the systems of the comparison on the test rows, and record their scores in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from empu.data.rows import Kind, Row
from empu.engine.language_model import LanguageModel, open_model
from empu.errors import CancelledError
from empu.evals import out_of_scope, systems
from empu.evals.calibration import fit_platt_scaling
from empu.evals.comparison import Comparison, compare
from empu.evals.prompting import few_shot_task, fits_context, with_task, zero_shot_task
from empu.evals.systems import System
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.records import EvaluatedRow, Evaluation, Metric, this_machine
from empu.specialist.dataset import PreparedDataset
from empu.specialist.plan import TunePlan
from empu.specialist.progress import ProgressListener
from empu.specialist.request import TuneRequest
from empu.store.stored_model import StoredModel
from empu.text.task import Task


def calibrate_task(
    plan: TunePlan, dataset: PreparedDataset, folder: Path, request: TuneRequest, listener: ProgressListener
) -> tuple[Task, Metric]:
    """Return the task with calibrated confidences and the out-of-scope threshold, and the validation accuracy.

    Both are fitted to the validation rows; ``folder`` holds the specialist.
    """
    on_rows = _row_counter(listener, "calibration", len(dataset.dev))
    model = _open_model(plan, request, folder)
    system = systems.evaluate_labels("calibration", model, plan.task, dataset.dev, 0, on_rows)
    task = replace(plan.task, calibration=fit_platt_scaling(system.confidences, system.correct))
    if dataset.out_of_scope or dataset.out_of_scope_test:
        in_scope = [task.confidence(probability) for probability in system.confidences]
        threshold = out_of_scope.choose_threshold(in_scope, _confidences(model, task, dataset.out_of_scope))
        if threshold is None:
            listener.message(
                f"No row will be rejected as out of scope: choosing a threshold needs {out_of_scope.MIN_ROWS} "
                f"out-of-scope rows outside the test split and {out_of_scope.MIN_ROWS} validation rows, and there are "
                f"{len(dataset.out_of_scope)} and {len(in_scope)}."
            )
        task = replace(task, threshold=threshold)
    return task, system.metrics["accuracy"]


def compare_systems(
    plan: TunePlan,
    dataset: PreparedDataset,
    specialist: StoredModel,
    request: TuneRequest,
    listener: ProgressListener,
) -> Comparison:
    """Evaluate the base model, the baselines and the specialist on the test rows."""
    rows = dataset.test
    base_size = plan.base.record.size
    base_model = _open_model(plan, request, None)
    model = _open_model(plan, request, specialist.path)
    assert model.task is not None
    if dataset.kind is Kind.PREFERENCE:
        evaluate = systems.evaluate_preferences
    elif plan.task.kind == "label":
        evaluate = systems.evaluate_labels
    else:
        evaluate = systems.evaluate_texts

    zero_shot = zero_shot_task(plan.task)
    base_tasks = {"base, no examples": zero_shot}
    if dataset.kind in (Kind.LABEL, Kind.COMPLETION):
        few_shot = few_shot_task(zero_shot, dataset.train)
        if few_shot.shots and fits_context(base_model, few_shot, rows):
            base_tasks[f"base, {len(few_shot.shots)} examples"] = few_shot
    evaluated = [
        evaluate(name, base_model, task, rows, base_size, _row_counter(listener, name, len(rows)))
        for name, task in base_tasks.items()
    ]
    if plan.task.kind == "label":
        listener.message("Fitting the linear baselines …")
        evaluated += systems.linear_baselines(dataset.train, rows, seed=plan.recipe.seed)
    elif plan.task.schema is not None:
        listener.message("Fitting the line tagger …")
        evaluated.append(systems.line_tagger_baseline(plan.task, dataset.train, rows, seed=plan.recipe.seed))

    on_rows = _row_counter(listener, request.name, len(rows))
    size = specialist.record.size + (base_size if specialist.record.base is not None else 0)
    ours = evaluate(request.name, model, model.task, rows, size, on_rows)
    if dataset.kind is Kind.PREFERENCE:
        ours = systems.with_gain_over_base(evaluated[0], ours)
    comparison = compare([*evaluated, ours])
    threshold = model.task.threshold
    if threshold is not None and dataset.out_of_scope_test:
        confidences = _confidences(model, model.task, dataset.out_of_scope_test)
        scores = out_of_scope.score_threshold(threshold, ours.confidences, ours.correct, confidences)
        comparison = replace(comparison, out_of_scope=scores)
    return comparison


def record_comparison(
    ledger: Ledger, dataset: PreparedDataset, specialist: StoredModel, plan: TunePlan, comparison: Comparison
) -> None:
    """Record the metrics and answers of every system. Baselines are recorded under their name."""
    with ledger.transaction():
        dataset_id = ledger.run(ledger.model(specialist.record.id).run or "").dataset
        for system in comparison.systems:
            ledger.add_evaluation(
                Evaluation(
                    specialist.record.id if system is comparison.specialist else _baseline_id(system, plan),
                    dataset_id,
                    "test",
                    system.metrics,
                    _evaluation_settings(system, comparison, plan),
                    this_machine(),
                ),
                (
                    EvaluatedRow(row.id, answer, is_correct)
                    for row, answer, is_correct in zip(dataset.test, system.answers, system.correct, strict=True)
                ),
            )


def _open_model(plan: TunePlan, request: TuneRequest, folder: Path | None) -> LanguageModel:
    """Open the base model, or the specialist in ``folder``."""
    if folder is not None and plan.recipe.method == "full":
        return open_model(folder, engine=request.engine, threads=request.threads)
    return open_model(plan.base.path, adapter=folder, engine=request.engine, threads=request.threads)


def _confidences(model: LanguageModel, task: Task, rows: Sequence[Row]) -> list[float]:
    """Return the confidence of the best label of each row."""
    classifier = with_task(model, task)
    return [best[0].confidence for best in classifier.classify([row.question() for row in rows])]


def _row_counter(listener: ProgressListener, system: str, total: int) -> Callable[[int], None]:
    """Return a callback that reports progress, and raises :class:`CancelledError` if the user asked to stop."""
    done = 0

    def on_rows(count: int) -> None:
        nonlocal done
        if listener.should_stop():
            raise CancelledError("Stopped during the evaluation. Run the same command again to resume.")
        done += count
        listener.on_answers(system, done, total)

    return on_rows


def _baseline_id(system: System, plan: TunePlan) -> str:
    """Return the name under which a baseline's scores are recorded. It belongs to this run only."""
    return f"{system.name} ({tagged(plan.identity[:12])})"


def _evaluation_settings(system: System, comparison: Comparison, plan: TunePlan) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "name": system.name,
        "ms_per_answer": system.ms_per_answer,
        "size_bytes": system.size_bytes,
    }
    if system is comparison.specialist:
        settings["sentence"] = comparison.sentence()
        settings["against"] = [_baseline_id(other, plan) for other in comparison.systems[:-1]]
        settings["p_values"] = dict(comparison.p_values)
        if (scores := comparison.out_of_scope) is not None:
            settings["out_of_scope"] = scores.to_json() | {"sentence": scores.sentence()}
    return settings
