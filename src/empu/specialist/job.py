"""`empu tune`, whole: rows, plan, tuning, comparison, record. Each stage is a function; the order is :func:`make`.

What a run is made of (base, rows in their order, recipe, code) is hashed to its identity. A broken run goes on where it
was when the same identity comes again; a finished one is not done twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from empu import __version__
from empu.checkpoint import open_checkpoint
from empu.config import ModelConfig
from empu.data.rows import Row
from empu.engine.language_model import LanguageModel, open_model
from empu.errors import StoreError
from empu.ledger.book import Ledger
from empu.ledger.hashing import content_id, tagged
from empu.ledger.records import Evaluation, Model, Outcome, Run, Step, this_machine
from empu.model.loading import build
from empu.model.transformer import Transformer
from empu.specialist import scoring
from empu.specialist.examples import examples_of, task_of
from empu.specialist.keeping import adapter_of, record_of, write_specialist
from empu.specialist.rows import Prepared
from empu.specialist.scoring import Comparison, System
from empu.store.store import Store, StoredModel, check_name
from empu.text import load_text
from empu.text.base import Text
from empu.text.task import Task
from empu.tune.examples import Example
from empu.tune.plan import Plan, choose_recipe, prepare, time_plan
from empu.tune.recipe import Recipe
from empu.tune.trainer import Outcome as Tuned
from empu.tune.trainer import Progress, Trainer

STEPS_AT_ONCE = 50


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


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that stands before the first step."""

    base: StoredModel
    config: ModelConfig
    text: Text
    task: Task
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    row_ids: Mapping[str, Sequence[str]]
    """Part -> ids of its rows, in order."""
    plan: Plan
    identity: str


@dataclass(frozen=True, slots=True)
class Made:
    """A specialist in the store, how it was tuned, and how it compares (``None`` without held-out rows)."""

    model: StoredModel
    tuned: Tuned | None
    comparison: Comparison | None
    is_new: bool


def make_ready(store: Store, prepared: Prepared, wishes: Wishes) -> Ready:
    """Open the base, read rows as token ids, choose the recipe. Nothing is written.

    Raises :class:`~empu.errors.EmpuError` when the base is not there, the name is taken by something else, or the rows
    do not make a task.
    """
    check_name(wishes.name)
    base = _base(store, wishes.base)
    task = task_of(prepared.kind, prepared.train)
    with open_checkpoint(base.path) as checkpoint:
        config = checkpoint.config
        text = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata)
    train = tuple(examples_of(text, task, prepared.train))
    dev = tuple(examples_of(text, task, prepared.dev))
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
    row_ids = {"train": [row.id for row in prepared.train], "dev": [row.id for row in prepared.dev]}
    identity = _identity(base, plan.recipe, task, row_ids)
    _check_name_free(store, wishes.name, identity)
    return Ready(base, config, text, task, train, dev, row_ids, plan, identity)


def with_plan(ready: Ready, plan: Plan) -> Ready:
    """The same with another plan, and the identity that follows from it."""
    return replace(ready, plan=plan, identity=_identity(ready.base, plan.recipe, ready.task, ready.row_ids))


def _identity(base: StoredModel, recipe: Recipe, task: Task, row_ids: Mapping[str, Sequence[str]]) -> str:
    """What determines the weights, hashed."""
    parts = {"base": base.record.id, "code": code_version(), "recipe": recipe.to_json(), "task": task.to_json()}
    return content_id(parts | {part: list(ids) for part, ids in row_ids.items()})


def plan_with_time(ready: Ready) -> Plan:
    """The plan, with the time measured on a few steps of a model that is then dropped."""
    model = _load(ready)
    return time_plan(ready.plan, model, ready.train)


def make(store: Store, prepared: Prepared, ready: Ready, wishes: Wishes, listener: Listener) -> Made:
    """Tune, keep, compare, record. Stopped at any moment, the same call goes on where it was."""
    if (done := finished(store, wishes.name, ready.identity)) is not None:
        listener.say(f"{wishes.name} is made of exactly these rows, this base and this recipe already.")
        return Made(done, None, None, False)
    with (
        Ledger.open(store.home / "ledger.db") as ledger,
        store.staging(f"tune-{ready.identity[:16]}", keep=True) as room,
    ):
        run = _begin_run(ledger, prepared, ready, room)
        model = _load(ready)
        trainer = Trainer(
            model, ready.train, ready.dev, ready.plan.recipe, folder=room / "state", identity=ready.identity
        )
        if trainer.resumed_from:
            listener.say(f"Going on after step {trainer.resumed_from:,}.")
            ledger.resume_run(run, trainer.resumed_from, this_machine())
        tuned = trainer.run(_recorder(ledger, run, listener), listener.stopped)
        task = ready.task
        adapter = adapter_of(model, ready.plan.recipe, ready.base.record.title or tagged(ready.base.record.id))
        del trainer, model
        said = {"base": ready.base.record.id, "identity": ready.identity, "recipe": ready.plan.recipe.to_json()}
        staged = room / "model"
        files = write_specialist(staged / "files", adapter, ready.config, task, said)
        if task.kind == "label" and prepared.dev:
            task = _calibrated(ready, prepared.dev, staged / "files", wishes, listener)
            files = write_specialist(staged / "files", adapter, ready.config, task, said)
        record = record_of(wishes.name, ready.base, ready.config, adapter, files, prepared.said())
        with ledger.transaction():
            ledger.end_run(run, "finished", {"steps": tuned.steps, "seconds": round(tuned.seconds, 3)})
            _record_models(ledger, ready.base, record.id, wishes.name, files, run, prepared.licence)
        added = store.add(staged, record, wishes.name)
        comparison = None
        if wishes.compare and prepared.test:
            comparison = _compare(ready, prepared, added.model, wishes, listener)
            _record_scores(ledger, prepared, added.model, ready, comparison)
        return Made(added.model, tuned, comparison, True)


def finished(store: Store, name: str, identity: str) -> StoredModel | None:
    """The model of that name, if it came out of a run of this identity."""
    model = store.named(name)
    if model is None or model.record.base is None:
        return None
    try:
        said = json.loads((model.path / "specialist.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return model if said.get("identity") == identity else None


def code_version() -> str:
    """Version and a hash over this package's sources: what computed the weights."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for room in ("model", "tune", "text", "checkpoint"):
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"


def _base(store: Store, name: str) -> StoredModel:
    found = store.resolve(name)
    if isinstance(found, Path):
        raise StoreError(f"{name} is not in the store; bring it in first with: empu pull --link {name}")
    if found.record.base is not None:
        raise StoreError(f"{name} is a specialist itself; tune its base, {found.record.base_models[0]}, instead.")
    store.verify(found)
    return found


def _check_name_free(store: Store, name: str, identity: str) -> None:
    if finished(store, name, identity) is None:
        store.check_free(name, None)


def _load(ready: Ready) -> Transformer:
    """The base in float32 with the recipe's adapters."""
    if ready.plan.recipe.threads is not None:
        torch.set_num_threads(ready.plan.recipe.threads)
    with open_checkpoint(ready.base.path) as checkpoint:
        model = build(checkpoint.config, ((tensor.name, tensor.float32()) for tensor in checkpoint.tensors()))
    return prepare(model, ready.plan.recipe)


def _begin_run(ledger: Ledger, prepared: Prepared, ready: Ready, room: Path) -> str:
    """The run's id in the ledger; a broken run keeps the one that it has."""
    note = room / "run"
    if note.is_file():
        return note.read_text("ascii")
    with ledger.transaction():
        dataset = ledger.add_dataset(
            str(prepared.kind), prepared.members(), prepared.exclusions, {"identity": ready.identity}
        )
        run = ledger.start_run(
            Run(
                ready.plan.recipe.to_json(),
                ready.plan.recipe.seed,
                code_version(),
                ready.base.record.id,
                dataset,
                content_id([row.id for row in prepared.train]),
                this_machine() | {"torch": torch.__version__, "threads": ready.plan.recipe.threads},
            )
        )
    note.write_text(run, "ascii")
    (room / "dataset").write_text(dataset, "ascii")
    return run


def _recorder(ledger: Ledger, run: str, listener: Listener) -> Callable[[Progress], None]:
    waiting: list[Step] = []

    def take(progress: Progress) -> None:
        waiting.append(Step(progress.step, progress.loss))
        if len(waiting) >= STEPS_AT_ONCE or progress.step == progress.steps or progress.dev_loss is not None:
            ledger.record_steps(run, waiting)
            waiting.clear()
        listener.tuning(progress)

    return take


def _open(ready: Ready, wishes: Wishes, adapter: Path | None) -> LanguageModel:
    return open_model(ready.base.path, adapter=adapter, engine=wishes.engine, threads=wishes.threads)


def _calibrated(ready: Ready, dev: Sequence[Row], folder: Path, wishes: Wishes, listener: Listener) -> Task:
    """The task with confidences fitted to the development rows."""
    counted = _counter(listener, "calibration", len(dev))
    system = scoring.label_system("calibration", _open(ready, wishes, folder), ready.task, dev, 0, counted)
    fitted = scoring.calibrate(system.confidences, system.correct)
    return replace(ready.task, calibration=fitted)


def _compare(ready: Ready, prepared: Prepared, made: StoredModel, wishes: Wishes, listener: Listener) -> Comparison:
    rows, train = prepared.test, prepared.train
    size = ready.base.record.size
    base = _open(ready, wishes, None)
    specialist = _open(ready, wishes, made.path)
    assert specialist.task is not None
    score = scoring.label_system if ready.task.kind == "label" else scoring.text_system
    asked = scoring.base_task(ready.task)
    contestants = {"base, no examples": asked}
    shown = scoring.few_shot(asked, train) if prepared.kind != "messages" else asked
    if shown.shots and scoring.fits(base, shown, rows):
        contestants[f"base, {len(shown.shots)} examples"] = shown
    systems = [
        score(name, base, task, rows, size, _counter(listener, name, len(rows))) for name, task in contestants.items()
    ]
    if ready.task.kind == "label":
        listener.say("Fitting the linear baseline …")
        systems.append(scoring.linear_system(train, rows, seed=ready.plan.recipe.seed))
    elif ready.task.schema is not None:
        listener.say("Fitting the line tagger …")
        systems.append(scoring.tagger_system(ready.task, train, rows, seed=ready.plan.recipe.seed))
    counted = _counter(listener, wishes.name, len(rows))
    systems.append(score(wishes.name, specialist, specialist.task, rows, size + made.record.size, counted))
    return scoring.compare(systems)


def _counter(listener: Listener, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        listener.scoring(name, done, total)

    return count


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


def _record_scores(ledger: Ledger, prepared: Prepared, made: StoredModel, ready: Ready, comparison: Comparison) -> None:
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
    return said


def loss_curve(tuned: Tuned, path: Path) -> None:
    """Losses as data (JSON) and, where matplotlib is installed, as a picture (PNG) beside it."""
    path.with_suffix(".json").write_text(
        json.dumps({"losses": tuned.losses, "dev_losses": tuned.dev_losses, "best_epoch": tuned.best_epoch}), "utf-8"
    )
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    window = max(1, len(tuned.losses) // 50)
    smooth = np.convolve(tuned.losses, np.ones(window) / window, mode="valid")
    axes.plot(range(window, window + len(smooth)), smooth, label=f"training, mean of {window} steps")
    if tuned.dev_losses:
        ends = [tuned.steps * (i + 1) / len(tuned.dev_losses) for i in range(len(tuned.dev_losses))]
        axes.plot(ends, tuned.dev_losses, "o-", label="held-out part")
    axes.set(xlabel="step", ylabel="loss per answer token (nats)")
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=120)
    pyplot.close(figure)


def recipe_of(value: Mapping[str, Any]) -> Recipe:
    """A recipe as the ledger holds it."""
    return Recipe.from_json(value)
