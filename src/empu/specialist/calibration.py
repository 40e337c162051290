"""Fit what a label specialist needs on validation rows: the mixture, calibrated confidences, and the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from empu.data.rows import Row
from empu.engine.language_model import LanguageModel
from empu.evals import out_of_scope
from empu.evals.calibration import fit_platt_scaling
from empu.evals.metrics import accuracy
from empu.evals.prompting import with_task
from empu.ledger.records import Metric
from empu.members.classifier import LabelClassifier, language_model_table
from empu.members.ensemble import Ensemble
from empu.members.files import write_ensemble
from empu.members.member import LANGUAGE_MODEL, FloatArray, mix
from empu.specialist.dataset import PreparedDataset
from empu.specialist.ensemble import choose_ensemble, label_indices
from empu.specialist.opening import open_run_model
from empu.specialist.plan import TunePlan
from empu.specialist.progress import ProgressListener, row_counter
from empu.specialist.request import TuneRequest
from empu.text.task import Task


def calibrate_task(
    plan: TunePlan,
    dataset: PreparedDataset,
    folder: Path,
    request: TuneRequest,
    listener: ProgressListener,
) -> tuple[Task, Metric]:
    """Return the task with calibrated confidences and the out-of-scope threshold, and the validation accuracy.

    ``folder`` holds the specialist. If a mixture is better than the language model alone, its files are written there.
    """
    model = open_run_model(plan, request, folder)
    dev = dataset.dev
    table = language_model_table(model, [row.question() for row in dev], row_counter(listener, "calibration", len(dev)))
    targets = label_indices(dev, plan.task.labels)
    alone = _platt(table, targets)
    ensemble = None
    whole = table
    if plan.members is not None:
        listener.message("Fitting the members beside the language model …")
        num_rows = len(dataset.train) + len(dev)
        ensemble, reason = choose_ensemble(
            plan.members,
            dataset.train,
            dev,
            plan.task.labels,
            table,
            alone,
            seed=plan.recipe.seed,
            on_rows=row_counter(listener, "text embeddings", num_rows),
        )
        listener.message(reason)
        if ensemble is not None:
            write_ensemble(folder, ensemble)
            texts = [row.question() for row in dev]
            tables = {name: member.log_probabilities(texts) for name, member in ensemble.members.items()}
            whole = mix({LANGUAGE_MODEL: table, **tables}, ensemble.weights)
    task = replace(plan.task, calibration=alone if ensemble is None else _platt(whole, targets))
    if dataset.out_of_scope or dataset.out_of_scope_test:
        in_scope = [task.confidence(float(p)) for p in np.exp(whole.max(axis=1))]
        confidences = best_confidences(model, task, ensemble, dataset.out_of_scope)
        threshold = out_of_scope.choose_threshold(in_scope, confidences)
        if threshold is None:
            listener.message(
                f"No row will be rejected as out of scope: choosing a threshold needs {out_of_scope.MIN_ROWS} "
                f"out-of-scope rows outside the test split and {out_of_scope.MIN_ROWS} validation rows, and there are "
                f"{len(dataset.out_of_scope)} and {len(in_scope)}."
            )
        task = replace(task, threshold=threshold)
    return task, accuracy([bool(right) for right in whole.argmax(axis=1) == targets])


def best_confidences(model: LanguageModel, task: Task, ensemble: Ensemble | None, rows: Sequence[Row]) -> list[float]:
    """Return the confidence of the best label of each row."""
    classifier = LabelClassifier(with_task(model, task), ensemble)
    return [best[0].confidence for best in classifier.classify([row.question() for row in rows])]


def _platt(table: FloatArray, targets: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    correct = [bool(right) for right in table.argmax(axis=1) == targets]
    return fit_platt_scaling([float(p) for p in np.exp(table.max(axis=1))], correct)
