"""The stages of ``empu tune`` after the plan: train, save, compare, record. :func:`tune` runs them in order.

An interrupted run resumes when the same request comes again. A finished run is not repeated.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from empu.evals.comparison import Comparison
from empu.ledger.hashing import FileId, content_id
from empu.ledger.ledger import Ledger
from empu.ledger.records import RecordedModel, TrainingStep, TuningRun, this_machine
from empu.specialist.calibration import calibrate_task
from empu.specialist.compare import compare_systems, record_comparison
from empu.specialist.dataset import PreparedDataset
from empu.specialist.existing_runs import find_finished, staging_key
from empu.specialist.identity import code_version
from empu.specialist.loss_curve import LOSS_CURVE_FOLDER, write_loss_curve
from empu.specialist.plan import TunePlan
from empu.specialist.progress import ProgressListener
from empu.specialist.request import TuneRequest
from empu.specialist.saving import hash_files, model_record, write_task_and_identity, write_weights
from empu.specialist.training import create_trainer, load_trainable_model
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.store.unfinished_runs import PLAN_FILE
from empu.system import durable
from empu.trust.checks import LicenceGate
from empu.trust.gate import Decision
from empu.tune.trainer import Trainer, TrainProgress, TrainResult
from empu.tune.training_state import check_disk_space

STEPS_PER_WRITE = 50
"""Steps that are written to the ledger at once."""


@dataclass(frozen=True, slots=True)
class TuneResult:
    """A specialist in the store."""

    model: StoredModel
    training: TrainResult | None
    """``None`` for a specialist that existed already."""
    comparison: Comparison | None
    """``None`` without test rows, and for a specialist that was compared before."""

    @property
    def is_new(self) -> bool:
        return self.training is not None


def tune(
    store: Store, dataset: PreparedDataset, plan: TunePlan, request: TuneRequest, listener: ProgressListener
) -> TuneResult:
    """Train, save, compare and record. After an interruption at any moment, the same call resumes.

    Raises :class:`~empu.trust.gate.LicenceError` if the licences of base and rows refuse it.
    """
    training = None
    decision = licence_decision(store, dataset, plan, request)
    decision.raise_if_refused()
    for finding in (*decision.unknown, *decision.obligations):
        listener.message(f"Licences: {finding.sentence()}")
    with Ledger.open(store.ledger_path) as ledger:
        model = find_finished(store, request.name, plan.request_key)
        if model is not None:
            listener.message(f"{request.name} was already tuned on exactly these rows, base model and recipe.")
        else:
            training, model = _train(store, ledger, dataset, plan, request, listener)
        comparison = None
        if request.compare and dataset.test and not ledger.evaluations(model.record.id):
            comparison = compare_systems(plan, dataset, model, request, listener)
            record_comparison(ledger, dataset, model, plan, comparison)
        elif request.compare and not dataset.test:
            listener.message(
                "Nothing is compared, because there are no in-scope test rows; give more rows, or others with --test."
            )
    return TuneResult(model, training, comparison)


def licence_decision(store: Store, dataset: PreparedDataset, plan: TunePlan, request: TuneRequest) -> Decision:
    """Ask the licence gate about the base model and the files of the rows."""
    files = sorted(set().union(*(rows.sources() for rows in (dataset.train, dataset.dev, dataset.test))))
    return LicenceGate(store, request.policy).decide_tune(plan.base, files, dataset.licence)


def _train(
    store: Store,
    ledger: Ledger,
    dataset: PreparedDataset,
    plan: TunePlan,
    request: TuneRequest,
    listener: ProgressListener,
) -> tuple[TrainResult, StoredModel]:
    """Train to the end, record the run and add the specialist to the store."""
    with store.staging(staging_key(plan.request_key), keep=True) as folder:
        if not (folder / "state").exists():
            check_disk_space(folder, plan.recipe_plan.trainable_parameters)
        run, is_new_run = _start_run(ledger, dataset, plan, folder)
        _write_run_files(folder, plan, request)
        is_recorded = ledger.run(run).status is not None  # interrupted between the ledger and the store
        model = load_trainable_model(plan.base.path, plan.recipe)
        trainer = create_trainer(model, plan.recipe, plan.train, plan.dev, plan.identity, folder / "state")
        if trainer.resumed_from:
            listener.message(f"Resuming after step {trainer.resumed_from:,}.")
        if not is_new_run and not is_recorded:
            _record_resumption(ledger, run, trainer)
        recorder = _StepRecorder(ledger, run, listener)
        try:
            result = trainer.run(recorder.on_step, listener.should_stop)
        finally:
            recorder.flush()
        staged, accuracy = folder / "model", None
        files_folder = staged / "files"
        shutil.rmtree(staged, ignore_errors=True)
        with durable.explain_write_errors(folder):
            staged.mkdir()
        write_weights(files_folder, model, plan)
        del trainer, model
        write_task_and_identity(files_folder, plan.task, plan)
        if plan.task.kind == "label" and dataset.dev:
            task, accuracy = calibrate_task(plan, dataset, files_folder, request, listener)
            write_task_and_identity(files_folder, task, plan)
        with durable.explain_write_errors(staged):
            write_loss_curve(result, accuracy, staged / LOSS_CURVE_FOLDER)
        files = hash_files(files_folder)
        record = model_record(request.name, plan, files, dataset.disclosure())
        with ledger.transaction():
            if not is_recorded:
                ledger.end_run(run, "finished", {"steps": result.steps, "seconds": round(result.seconds, 3)})
            _record_models(ledger, plan.base, record.id, request.name, files, run)
        return result, store.add(staged, record, request.name, move_name=request.replace).model


def _start_run(ledger: Ledger, dataset: PreparedDataset, plan: TunePlan, folder: Path) -> tuple[str, bool]:
    """Return the run's id in the ledger and whether it is new. An interrupted run keeps its id."""
    id_file = folder / "run"
    if id_file.is_file():
        return id_file.read_text("ascii"), False
    with ledger.transaction():
        run = ledger.start_run(
            TuningRun(
                recipe=plan.recipe.to_json(),
                seed=plan.recipe.seed,
                code_version=code_version(),
                base=plan.base.record.id,
                dataset=dataset.record(ledger, plan.identity),
                row_order=content_id(list(dataset.train.ids())),
                machine=this_machine() | {"torch": torch.__version__, "threads": plan.recipe.threads},
            )
        )
    with durable.explain_write_errors(folder):
        durable.write_atomically(id_file, run.encode("ascii"))
    return run, True


def _write_run_files(folder: Path, plan: TunePlan, request: TuneRequest) -> None:
    """Write what the list of unfinished runs shows."""
    with durable.explain_write_errors(folder):
        durable.write_atomically(folder / "name", request.name.encode())
        size = {"epochs": plan.recipe.epochs, "examples": len(plan.train)}
        durable.write_atomically(folder / PLAN_FILE, json.dumps(size).encode())
        if request.command is not None:
            durable.write_atomically(folder / "command", request.command.encode())


def _record_resumption(ledger: Ledger, run: str, trainer: Trainer[Any]) -> None:
    """Record a new attempt, and the steps of the checkpoint that a killed process did not record."""
    losses = trainer.counters.losses[: trainer.resumed_from]
    recorded = min(sum(1 for _ in ledger.steps(run)), len(losses))
    ledger.resume_run(run, recorded, this_machine())
    steps = [TrainingStep(number, losses[number - 1]) for number in range(recorded + 1, len(losses) + 1)]
    ledger.record_steps(run, steps)


class _StepRecorder:
    """Records steps in the ledger, several at a time."""

    def __init__(self, ledger: Ledger, run: str, listener: ProgressListener) -> None:
        self._ledger, self._run, self._listener = ledger, run, listener
        self._pending: list[TrainingStep] = []

    def on_step(self, progress: TrainProgress) -> None:
        self._pending.append(TrainingStep(progress.step, progress.loss))
        is_last = progress.step == progress.steps or progress.dev_loss is not None
        if len(self._pending) >= STEPS_PER_WRITE or is_last:
            self.flush()
        self._listener.on_step(progress)

    def flush(self) -> None:
        if self._pending:
            self._ledger.record_steps(self._run, self._pending)
            self._pending = []


def _record_models(
    ledger: Ledger, base: StoredModel, specialist_id: str, name: str, files: tuple[FileId, ...], run: str
) -> None:
    record = base.record
    licence = record.licence.id or "unknown"
    disclosed = {"in files": record.disclosure.in_files}
    disclosed |= {statement.according_to: statement.says for statement in record.disclosure.statements}
    base_name = base.name or record.id[:12]
    ledger.add_model(RecordedModel(record.id, base_name, record.files, licence=licence, disclosed=disclosed))
    ledger.add_model(RecordedModel(specialist_id, name, files, record.id, run, licence))
