"""Repeat a recorded run from the rows, recipe and base model in the ledger, and compare the weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from empu.checkpoint import open_checkpoint
from empu.data.prompts import task_of
from empu.data.rows import REQUIRED, Kind, Row
from empu.embed.text_encoder import installed_encoders
from empu.errors import StoreError, UsageError
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RecordedRun
from empu.ledger.records import DEV, TRAIN
from empu.members.embeddings import EmbeddingMember
from empu.members.files import read_ensemble, write_ensemble
from empu.members.member import EMBEDDINGS, LANGUAGE_MODEL
from empu.specialist.ensemble import MembersPlan, embed_rows, fit_members, rows_for_members
from empu.specialist.identity import code_version
from empu.specialist.plan import TunePlan
from empu.specialist.progress import ProgressListener
from empu.specialist.saving import hash_files, write_weights
from empu.specialist.training import create_trainer, load_trainable_model
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.text import load_text_processor
from empu.text.task import read_task
from empu.tune.encoding import encode_rows
from empu.tune.recipe import Recipe
from empu.tune.recipe_plan import RecipePlan

WEIGHTS_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """Result of repeating a run."""

    steps: int
    differing_files: tuple[str, ...]
    """Weight files whose hash is not the recorded one."""
    recorded_code: str
    """Version of the code that ran first."""
    current_code: str

    def sentence(self) -> str:
        """Return the result in one sentence."""
        if not self.differing_files:
            return f"Repeated the run from the ledger ({self.steps:,} steps); the weights are the same, byte for byte."
        reason = (
            f"the code has changed (now {self.current_code}, then {self.recorded_code})"
            if self.recorded_code != self.current_code
            else "the code is the same, so the likely reason is another machine, library or number of threads"
        )
        return f"The repeated run gives different weights in {', '.join(self.differing_files)}; {reason}."

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values, for ``--json``."""
        return {
            "steps": self.steps,
            "differing": self.differing_files,
            "code_then": self.recorded_code,
            "code_now": self.current_code,
        }


def reproduce(store: Store, ledger: Ledger, model: StoredModel, listener: ProgressListener) -> Reproduction:
    """Train again from the ledger and compare the hashes of the weights. The new weights are not kept.

    Raises :class:`UsageError` for a model that was not tuned here, and :class:`StoreError` if its base model is missing
    or its recipe is of an incompatible version of Empu.
    """
    recorded = ledger.model(model.record.id)
    if recorded.run is None:
        raise UsageError(f"{recorded.name} was not tuned in this store, so there is no run to repeat.")
    run = ledger.run(recorded.run)
    plan = _recorded_plan(store, ledger, run, model)
    trained = load_trainable_model(plan.base.path, plan.recipe)
    trainer = create_trainer(trained, plan.recipe, plan.train, plan.dev, plan.identity)
    result = trainer.run(listener.on_step, listener.should_stop)
    with store.staging(f"retrain-{run.id[:16]}") as folder:
        write_weights(folder / "files", trained, plan)
        _refit_members(store, ledger, run, model, plan, folder / "files")
        hashes = {file.name: file.sha256 for file in hash_files(folder / "files")}
    differing = tuple(
        file.name
        for file in recorded.files
        if file.name.endswith(WEIGHTS_SUFFIX) and hashes.get(file.name) != file.sha256
    )
    return Reproduction(result.steps, differing, run.code_version, code_version())


def _refit_members(
    store: Store, ledger: Ledger, run: RecordedRun, model: StoredModel, plan: TunePlan, folder: Path
) -> None:
    """Fit the other members of a label specialist again and write their files."""
    ensemble = read_ensemble(model.path, lambda: installed_encoders(store.home))
    if ensemble is None or run.dataset is None:
        return
    embeddings = ensemble.members.get(EMBEDDINGS)
    encoder = embeddings.encoder if isinstance(embeddings, EmbeddingMember) else None
    members = MembersPlan((LANGUAGE_MODEL, *ensemble.members), False, encoder)
    rows = rows_for_members(list(recorded_rows(ledger, run.dataset, TRAIN)), ensemble.labels)
    fitted = fit_members(members, rows, ensemble.labels, embed_rows(members, rows), seed=plan.recipe.seed)
    write_ensemble(folder, replace(ensemble, members={name: fitted[name] for name in ensemble.members}))


def recorded_rows(ledger: Ledger, dataset: str, split: str) -> Iterator[Row]:
    """Yield the rows of a split of a dataset as they were read."""
    for row in ledger.rows(dataset, split):
        kind = next(kind for kind in Kind if set(REQUIRED[kind]) <= set(row.fields))
        yield Row(kind, row.fields, row.source.path, row.number, row.row_id)


def _recorded_plan(store: Store, ledger: Ledger, run: RecordedRun, model: StoredModel) -> TunePlan:
    """Return the plan of a recorded run."""
    base = store.find(run.base)
    if base is None or run.dataset is None:
        problem = (
            f"its base model, sha256:{run.base[:12]}…, is not in the store"
            if base is None
            else "its rows are not recorded"
        )
        raise StoreError(
            f"The run {run.id[:12]} cannot be repeated: {problem}; pull the base model again, or tune again."
        )
    store.verify(base)
    try:
        recipe = Recipe.from_json(run.recipe)
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"The run {run.id[:12]} was made by Empu {run.code_version}, whose recipe this version cannot read "
            f"({error}); install that version to repeat it."
        ) from None
    recorded_task = read_task(model.path)
    labels = recorded_task.labels if recorded_task is not None else ()
    # Rows with other labels were out of scope, so they were not trained on.
    train, dev = (
        [row for row in recorded_rows(ledger, run.dataset, split) if not labels or row.label in labels]
        for split in (TRAIN, DEV)
    )
    task = task_of(train[0].kind, train)
    with open_checkpoint(base.path) as checkpoint:
        config = checkpoint.config
        text = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata)
    return TunePlan(
        base=base,
        config=config,
        text=text,
        task=task,
        train=encode_rows(text, task, train),
        dev=encode_rows(text, task, dev),
        row_ids={TRAIN: [row.id for row in train], DEV: [row.id for row in dev]},
        recipe_plan=RecipePlan(recipe, (), len(train), 0, 0),
        identity=run.id,
        request_key=run.id,
    )
