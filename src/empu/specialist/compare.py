"""Run the systems of the comparison on the test rows, and record their scores in the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from empu.data.rows import Kind
from empu.evals import out_of_scope, systems
from empu.evals.comparison import Comparison, compare
from empu.evals.ensemble import evaluate_ensemble, evaluate_member
from empu.evals.prompting import few_shot_task, fits_context, zero_shot_task
from empu.evals.systems import System
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.records import EvaluatedRow, Evaluation, this_machine
from empu.members.classifier import LabelClassifier
from empu.members.ensemble import Ensemble
from empu.members.files import read_ensemble
from empu.members.member import EMBEDDINGS, LANGUAGE_MODEL, TFIDF
from empu.specialist.calibration import best_confidences
from empu.specialist.dataset import PreparedDataset
from empu.specialist.ensemble import MembersPlan, embed_rows, fit_members, rows_for_members
from empu.specialist.opening import open_run_model
from empu.specialist.plan import TunePlan
from empu.specialist.progress import ProgressListener, row_counter
from empu.specialist.request import TuneRequest
from empu.store.stored_model import StoredModel


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
    base_model = open_run_model(plan, request, None)
    model = open_run_model(plan, request, specialist.path)
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
        evaluate(name, base_model, task, rows, base_size, row_counter(listener, name, len(rows)))
        for name, task in base_tasks.items()
    ]
    ensemble, report = None, None
    if plan.members is not None:
        encoder = plan.members.encoder
        ensemble = read_ensemble(specialist.path, lambda: [encoder] if encoder is not None else [])
        evaluated += _linear_baselines(plan, plan.members, dataset, ensemble, listener)
    elif plan.task.schema is not None:
        listener.message("Fitting the line tagger …")
        evaluated.append(systems.line_tagger_baseline(plan.task, dataset.train, rows, seed=plan.recipe.seed))

    on_rows = row_counter(listener, request.name, len(rows))
    size = specialist.record.size + (base_size if specialist.record.base is not None else 0)
    if ensemble is not None:
        ours, members, report = evaluate_ensemble(request.name, LabelClassifier(model, ensemble), rows, size, on_rows)
        evaluated += members
    else:
        ours = evaluate(request.name, model, model.task, rows, size, on_rows)
    if dataset.kind is Kind.PREFERENCE:
        ours = systems.with_gain_over_base(evaluated[0], ours)
    comparison = replace(compare([*evaluated, ours]), ensemble=report)
    threshold = model.task.threshold
    if threshold is not None and dataset.out_of_scope_test:
        confidences = best_confidences(model, model.task, ensemble, dataset.out_of_scope_test)
        scores = out_of_scope.score_threshold(threshold, ours.confidences, ours.correct, confidences)
        comparison = replace(comparison, out_of_scope=scores)
    return comparison


def _linear_baselines(
    plan: TunePlan,
    members: MembersPlan,
    dataset: PreparedDataset,
    ensemble: Ensemble | None,
    listener: ProgressListener,
) -> list[System]:
    """Return the linear models that are no members of the specialist: on TF-IDF, and on embeddings if there are any."""
    possible = (TFIDF, EMBEDDINGS) if members.encoder is not None else (TFIDF,)
    missing = [name for name in possible if ensemble is None or name not in ensemble.members]
    if not missing:
        return []
    listener.message("Fitting the linear baselines …")
    to_fit = replace(members, names=(LANGUAGE_MODEL, *missing))
    rows = rows_for_members(dataset.train, plan.task.labels)
    on_rows = row_counter(listener, "text embeddings", len(rows))
    fitted = fit_members(to_fit, rows, plan.task.labels, embed_rows(to_fit, rows, on_rows), seed=plan.recipe.seed)
    return [evaluate_member(member, plan.task.labels, dataset.test) for member in fitted.values()]


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
        if comparison.ensemble is not None:
            settings["ensemble"] = comparison.ensemble.to_json()
    return settings
