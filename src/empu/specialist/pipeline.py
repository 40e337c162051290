"""`empu tune`, whole: rows, plan, tuning, comparison, record. Each stage is a function; the order is :func:`make`.

A broken run goes on where it was when the same identity comes again; a finished one is not done twice.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from empu.evals.systems import Comparison
from empu.ledger.hashing import content_id
from empu.ledger.ledger import Ledger
from empu.ledger.records import Model, Run, Step, this_machine
from empu.specialist.compare import calibrated, compare, record_scores
from empu.specialist.dataset import Prepared
from empu.specialist.loss_curve import FOLDER, loss_curve
from empu.specialist.plan import Listener, Ready, Wishes, code_version, load_model, trainer_of
from empu.specialist.saving import files_of, finished, record_of, room_of, write_notes, write_weights
from empu.store.store import Store, StoredModel
from empu.store.unfinished_runs import PLAN_FILE
from empu.system import durable
from empu.tune.trainer import Outcome as Tuned
from empu.tune.trainer import Progress, Trainer

STEPS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Made:
    """A specialist in the store, how it was tuned, and how it compares (``None`` without held-out rows)."""

    model: StoredModel
    tuned: Tuned | None
    comparison: Comparison | None
    is_new: bool


def make(store: Store, prepared: Prepared, ready: Ready, wishes: Wishes, listener: Listener) -> Made:
    """Tune, keep, compare, record. Stopped at any moment, the same call goes on where it was."""
    tuned = None
    with Ledger.open(store.ledger_path) as ledger:
        model = finished(store, wishes.name, ready.asked)
        if model is not None:
            listener.say(f"{wishes.name} is made of exactly these rows, this base and this recipe already.")
        else:
            tuned, model = _tune(store, ledger, prepared, ready, wishes, listener)
        comparison = None
        if wishes.compare and prepared.test and not ledger.scores(model.record.id):
            comparison = compare(ready, prepared, model, wishes, listener)
            record_scores(ledger, prepared, model, ready, comparison)
        elif wishes.compare and not prepared.test:
            listener.say("Nothing is compared, since no row in scope is held out; give more rows, or others as --test.")
    return Made(model, tuned, comparison, tuned is not None)


def _tune(
    store: Store, ledger: Ledger, prepared: Prepared, ready: Ready, wishes: Wishes, listener: Listener
) -> tuple[Tuned, StoredModel]:
    """Tune to the end, record the run and put the specialist into the store."""
    with store.staging(room_of(ready.asked), keep=True) as room:
        run, is_new = _begin_run(ledger, prepared, ready, room)
        with durable.writing(room):
            durable.write_atomically(room / "name", wishes.name.encode())
            plan = {"epochs": ready.plan.recipe.epochs, "examples": len(ready.train)}
            durable.write_atomically(room / PLAN_FILE, json.dumps(plan).encode())
            if wishes.command is not None:
                durable.write_atomically(room / "command", wishes.command.encode())
        recorded = ledger.run(run).status is not None  # stopped between the ledger and the store
        model = load_model(ready)
        trainer = trainer_of(ready, model, room / "state")
        if trainer.resumed_from:
            listener.say(f"Going on after step {trainer.resumed_from:,}.")
        if not is_new and not recorded:
            _resume(ledger, run, trainer)
        recorder = _Recorder(ledger, run, listener)
        try:
            tuned = trainer.run(recorder.take, listener.stopped)
        finally:
            recorder.flush()
        staged, accuracy = room / "model", None
        folder = staged / "files"
        shutil.rmtree(staged, ignore_errors=True)
        with durable.writing(room):
            staged.mkdir()
        write_weights(folder, model, ready)
        del trainer, model
        write_notes(folder, ready.task, ready)
        if ready.task.kind == "label" and prepared.dev:
            task, accuracy = calibrated(ready, prepared, folder, wishes, listener)
            write_notes(folder, task, ready)
        with durable.writing(staged):
            loss_curve(tuned, accuracy, staged / FOLDER)
        files = files_of(folder)
        record = record_of(wishes.name, ready, files, prepared.said())
        with ledger.transaction():
            if not recorded:
                ledger.end_run(run, "finished", {"steps": tuned.steps, "seconds": round(tuned.seconds, 3)})
            _record_models(ledger, ready.base, record.id, wishes.name, files, run, prepared.licence)
        return tuned, store.add(staged, record, wishes.name, move_name=wishes.replace).model


def _resume(ledger: Ledger, run: str, trainer: Trainer) -> None:
    """A new attempt in the ledger, with the steps that the state holds and a killed process did not record."""
    losses = trainer.counters.losses[: trainer.resumed_from]
    known = min(sum(1 for _ in ledger.steps(run)), len(losses))
    ledger.resume_run(run, known, this_machine())
    ledger.record_steps(run, [Step(number, losses[number - 1]) for number in range(known + 1, len(losses) + 1)])


def _begin_run(ledger: Ledger, prepared: Prepared, ready: Ready, room: Path) -> tuple[str, bool]:
    """The run's id in the ledger, and whether it is new; a broken run keeps the id that it has."""
    note = room / "run"
    if note.is_file():
        return note.read_text("ascii"), False
    with ledger.transaction():
        dataset = prepared.record(ledger, ready.identity)
        run = ledger.start_run(
            Run(
                ready.plan.recipe.to_json(),
                ready.plan.recipe.seed,
                code_version(),
                ready.base.record.id,
                dataset,
                content_id(list(prepared.train.ids())),
                this_machine() | {"torch": torch.__version__, "threads": ready.plan.recipe.threads},
            )
        )
    with durable.writing(room):
        durable.write_atomically(note, run.encode("ascii"))
    return run, True


class _Recorder:
    """Writes steps into the ledger, some at a time; those before a stop too."""

    def __init__(self, ledger: Ledger, run: str, listener: Listener) -> None:
        self._ledger, self._run, self._listener = ledger, run, listener
        self._waiting: list[Step] = []

    def take(self, progress: Progress) -> None:
        self._waiting.append(Step(progress.step, progress.loss))
        if len(self._waiting) >= STEPS_AT_ONCE or progress.step == progress.steps or progress.dev_loss is not None:
            self.flush()
        self._listener.tuning(progress)

    def flush(self) -> None:
        if self._waiting:
            self._ledger.record_steps(self._run, self._waiting)
            self._waiting = []


def _record_models(
    ledger: Ledger, base: StoredModel, identity: str, name: str, files: Any, run: str, licence: str
) -> None:
    record = base.record
    disclosed = {"in files": record.disclosure.in_files} | {
        said.according_to: said.says for said in record.disclosure.statements
    }
    ledger.add_model(
        Model(
            record.id, base.name or record.id[:12], record.files, None, None, record.licence.id or "unknown", disclosed
        )
    )
    ledger.add_model(Model(identity, name, tuple(files), record.id, run, record.licence.id or "unknown"))
