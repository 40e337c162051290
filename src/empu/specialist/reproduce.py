"""Repeating a recorded run: rows, recipe and base out of the ledger, and whether the same weights come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from empu.checkpoint import open_checkpoint
from empu.data.rows import REQUIRED, Kind, Row
from empu.errors import StoreError, UsageError
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RunRecord
from empu.ledger.records import DEV, TRAIN
from empu.specialist.plan import Listener, Ready, code_version, load_model, trainer_of
from empu.specialist.saving import files_of, write_weights
from empu.store.store import Store, StoredModel
from empu.text import load_text
from empu.text.task import read_task
from empu.tune.encoding import examples_of, task_of
from empu.tune.plan import Plan
from empu.tune.recipe import Recipe

WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class Repeated:
    """What came out of the run when it was repeated."""

    steps: int
    differing: tuple[str, ...]
    """Files of weights whose hash is not the recorded one."""
    code_then: str
    code_now: str

    def sentence(self) -> str:
        """The outcome for people."""
        if not self.differing:
            return (
                f"The run was repeated from the ledger, {self.steps:,} steps, and gives the same weights byte for byte."
            )
        why = (
            f"the code is another one now ({self.code_now}, then {self.code_then})"
            if self.code_then != self.code_now
            else "the code is the same, so another machine, library or number of threads is the likely reason"
        )
        return f"The repeated run gives other weights in {', '.join(self.differing)}; {why}."


def retrain(store: Store, ledger: Ledger, model: StoredModel, listener: Listener) -> Repeated:
    """Tune again from what the ledger holds and compare the weights' hashes; the store keeps none of it.

    Raises :class:`UsageError` for a model that was not tuned here, and :class:`StoreError` when its base is gone or its
    recipe is of another version of Empu.
    """
    recorded = ledger.model(model.record.id)
    if recorded.run is None:
        raise UsageError(f"{recorded.name} was not tuned here, so there is no run to repeat.")
    run = ledger.run(recorded.run)
    ready = _ready_again(store, ledger, run, model)
    tuned = load_model(ready)
    trainer = trainer_of(ready, tuned)
    outcome = trainer.run(listener.tuning, listener.stopped)
    with store.staging(f"retrain-{run.id[:16]}") as room:
        write_weights(room / "files", tuned, ready)
        found = {file.name: file.sha256 for file in files_of(room / "files")}
    differing = tuple(
        file.name for file in recorded.files if file.name.endswith(WEIGHTS) and found.get(file.name) != file.sha256
    )
    return Repeated(outcome.steps, differing, run.code_version, code_version())


def _ready_again(store: Store, ledger: Ledger, run: RunRecord, model: StoredModel) -> Ready:
    """What stood before the first step of a recorded run."""
    base = store.find(run.base)
    if base is None or run.dataset is None:
        what = (
            f"its base, sha256:{run.base[:12]}…, is not in the store" if base is None else "its rows are not recorded"
        )
        raise StoreError(f"The run {run.id[:12]} cannot be repeated: {what}; pull that model again or tune anew.")
    store.verify(base)
    try:
        recipe = Recipe.from_json(run.recipe)
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"The run {run.id[:12]} was made by Empu {run.code_version}, whose recipe this version does not read "
            f"({error}); install that version to repeat it."
        ) from None
    tuned_for = read_task(model.path)
    labels = tuned_for.labels if tuned_for is not None else ()  # rows of another label were out of scope
    train, dev = (
        tuple(row for row in recorded_rows(ledger, run.dataset, part) if not labels or row.label in labels)
        for part in (TRAIN, DEV)
    )
    task = task_of(train[0].kind, train)
    with open_checkpoint(base.path) as checkpoint:
        config = checkpoint.config
        text = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata)
    return Ready(
        base=base,
        config=config,
        text=text,
        task=task,
        train=tuple(examples_of(text, task, train)),
        dev=tuple(examples_of(text, task, dev)),
        row_ids={TRAIN: [row.id for row in train], DEV: [row.id for row in dev]},
        plan=Plan(recipe, (), len(train), 0, 0),
        identity=run.id,
        asked=run.id,
    )


def recorded_rows(ledger: Ledger, dataset: str, part: str) -> Iterator[Row]:
    """The rows of a part of a data set, as they were read."""
    for place in ledger.rows(dataset, part):
        kind = next(kind for kind in Kind if set(REQUIRED[kind]) <= set(place.fields))
        yield Row(kind, place.fields, place.source.path, place.number, place.row_id)
