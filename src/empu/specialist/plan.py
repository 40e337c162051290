"""What stands before the first step of tuning: the base, the task, rows as token ids, the recipe, and an identity.

What a run is made of (base, rows in their order, recipe, code) is hashed to its identity.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from empu import __version__
from empu.checkpoint import open_checkpoint
from empu.config import ModelConfig
from empu.data.answer_schema import object_of
from empu.data.rows import Kind
from empu.errors import StoreError
from empu.ledger.hashing import content_id, hash_file
from empu.model.loading import build
from empu.model.transformer import Transformer
from empu.specialist.dataset import Prepared
from empu.specialist.saving import TUNED, epochs_before, finished
from empu.store.store import Store, StoredModel, check_name
from empu.text import load_text
from empu.text.base import Text
from empu.text.task import Task
from empu.tune.batches import Example, Examples
from empu.tune.encoding import examples_of, task_of
from empu.tune.objectives.preference import Pair, PreferenceTrainer, with_references
from empu.tune.plan import Plan, choose_recipe, prepare, time_plan, within
from empu.tune.recipe import Recipe
from empu.tune.trainer import Progress, Trainer


class Listener(Protocol):
    """Whoever tells people what happens."""

    def say(self, sentence: str) -> None:
        """One line."""

    def tuning(self, progress: Progress) -> None:
        """After each step."""

    def scoring(self, name: str, done: int, total: int) -> None:
        """While a contestant answers."""

    def stopped(self) -> bool:
        """Whether the user asked to stop."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said; ``None`` leaves the choice to the plan."""

    name: str
    base: str = "default"
    method: str = "lora"
    rank: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    precision: str | None = None
    seed: int = 0
    threads: int | None = None
    engine: str = "auto"
    compare: bool = True
    budget: float | None = None
    """Seconds that tuning keeps to, by fewer epochs."""
    replace: bool = False
    """Whether ``name`` may leave the specialist that has it now."""
    command: str | None = None
    """What a shell is told to make it, and to go on after a stop."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that stands before the first step."""

    base: StoredModel
    config: ModelConfig
    text: Text
    task: Task
    train: Sequence[Example]
    dev: Sequence[Example]
    row_ids: Mapping[str, Sequence[str]]
    """Part -> ids of its rows, in order."""
    plan: Plan
    identity: str
    asked: str
    """What was wished for, by which the same wishes find their run again: the identity, or where the epochs follow from
    a time that was measured, the identity before and the budget.
    """


def make_ready(store: Store, prepared: Prepared, wishes: Wishes) -> Ready:
    """Open the base, read rows as token ids, choose the recipe. Nothing is written.

    A budget is kept to by as many epochs as fit by a measurement; a run of the same wishes keeps those that it has.
    Raises :class:`~empu.errors.EmpuError` when the base is not there, the name is taken by something else, or the rows
    do not make a task.
    """
    check_wishes(store, wishes)
    base = _base(store, wishes.base)
    task = task_of(prepared.kind, prepared.train)
    with open_checkpoint(base.path) as checkpoint:
        config = checkpoint.config
        text = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata)
    kept = tuple if prepared.kind is Kind.PREFERENCE else Examples
    train, dev = (kept(examples_of(text, task, rows)) for rows in (prepared.train, prepared.dev))
    plan = choose_recipe(
        config,
        train,
        method="full" if wishes.method == "full" else "lora",
        labels=task.kind == "label",
        rank=wishes.rank,
        epochs=wishes.epochs,
        learning_rate=wishes.learning_rate,
        precision=wishes.precision,  # type: ignore[arg-type]
        seed=wishes.seed,
        threads=wishes.threads,
    )
    if (loose := _loose(prepared, task)) is not None:
        plan = replace(plan, reasons=(loose, *plan.reasons))
    row_ids = {
        "train": list(prepared.train.ids()),
        "dev": list(prepared.dev.ids()),
        # No weight depends on these; what is recorded of the specialist does.
        "test": list(prepared.test.ids()),
        "outside": sorted(row.id for row in prepared.outside),
        "outside_test": sorted(row.id for row in prepared.outside_test),
    }
    identity = asked = _identity(base, plan.recipe, task, row_ids)
    if wishes.budget is not None:
        asked = content_id({"identity": identity, "budget": wishes.budget})
    if not wishes.replace and finished(store, wishes.name, asked) is None:
        store.check_free(wishes.name, None, "choose another one with --name, or move it here with --replace")
    ready = Ready(base, config, text, task, train, dev, row_ids, plan, identity, asked)
    return ready if wishes.budget is None else _within(ready, wishes.budget, epochs_before(store, wishes.name, asked))


def _loose(prepared: Prepared, task: Task) -> str | None:
    """Why answers are held to no form, where most of the rows have one."""
    if prepared.kind is not Kind.COMPLETION or task.schema is not None:
        return None
    others = [row for row in prepared.train if object_of(str(row.fields["completion"])) is None]
    if 2 * len(others) >= len(prepared.train):
        return None
    return (
        f"free text: {len(others):,} of {len(prepared.train):,} completions are no JSON objects, the first in "
        f"{others[0].source}:{others[0].number}; without them answers would be held to the others' form"
    )


def _within(ready: Ready, budget: float, epochs: int | None) -> Ready:
    """The same with as many epochs as fit, or as were found to fit before, and the identity that follows."""
    if epochs is None:
        plan = within(plan_with_time(ready), budget)
    else:
        reason = f"{epochs} of {ready.plan.recipe.epochs} epochs, as chosen for this budget when the run began"
        recipe = replace(ready.plan.recipe, epochs=epochs)
        plan = replace(ready.plan, recipe=recipe, reasons=(*ready.plan.reasons, reason))
    return replace(ready, plan=plan, identity=_identity(ready.base, plan.recipe, ready.task, ready.row_ids))


def _identity(base: StoredModel, recipe: Recipe, task: Task, row_ids: Mapping[str, Sequence[str]]) -> str:
    """What determines the weights, hashed."""
    parts = {"base": base.record.id, "code": code_version(), "recipe": recipe.to_json(), "task": task.to_json()}
    return content_id(parts | {part: list(ids) for part, ids in row_ids.items()})


def plan_with_time(ready: Ready) -> Plan:
    """The plan, with the time measured on a few steps of a model that is then dropped."""
    model = load_model(ready)
    return time_plan(ready.plan, model, ready.train)


def code_version() -> str:
    """Version and a hash over this package's sources and its compiled engine: what computed the weights."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for room in ("model", "tune", "text", "checkpoint"):
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    compiled = importlib.util.find_spec("empu.engine._native")
    if compiled is not None and compiled.origin is not None:
        digest.update(bytes.fromhex(hash_file(Path(compiled.origin))))
    return f"{__version__}+{digest.hexdigest()[:12]}"


def _base(store: Store, name: str) -> StoredModel:
    found = store.resolve(name)
    if isinstance(found, Path):
        raise StoreError(f"{name} is not in the store; bring it in first with: empu pull --link {name}")
    if found.record.base is not None:
        raise StoreError(f"{name} is a specialist itself; tune its base, {found.record.base_models[0]}, instead.")
    store.verify(found)
    return found


def check_wishes(store: Store, wishes: Wishes) -> None:
    """Raise for a name that nothing made here can have. Costs nothing, so it comes before rows are read."""
    check_name(wishes.name)
    taken = store.named(wishes.name)
    if taken is not None and taken.record.source.kind != TUNED:
        store.check_free(wishes.name, None)


def load_model(ready: Ready) -> Transformer:
    """The base in float32 with the recipe's adapters."""
    if ready.plan.recipe.threads is not None:
        torch.set_num_threads(ready.plan.recipe.threads)
    with open_checkpoint(ready.base.path) as checkpoint:
        model = build(checkpoint.config, ((tensor.name, tensor.float32()) for tensor in checkpoint.tensors()))
    return prepare(model, ready.plan.recipe)


def trainer_of(ready: Ready, model: Transformer, folder: Path | None = None) -> Trainer:
    """The loop for these rows. ``model`` is fresh from :func:`load_model`; ``folder`` keeps the state of the run."""
    recipe, identity = ready.plan.recipe, ready.identity
    train, dev = ([row for row in rows if isinstance(row, Pair)] for rows in (ready.train, ready.dev))
    if not train:
        return Trainer(model, ready.train, ready.dev, recipe, folder=folder, identity=identity)
    train, dev = list(with_references(model, train)), list(with_references(model, dev))
    return PreferenceTrainer(model, train, dev, recipe, folder=folder, identity=identity)
