"""The plan of a tuning run: base model, task, rows as token ids, recipe and identity. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from empu.checkpoint import open_checkpoint
from empu.config import ModelConfig
from empu.data.answer_schema import parse_object
from empu.data.prompts import task_of
from empu.data.rows import Kind
from empu.embed.text_encoder import installed_encoders
from empu.errors import StoreError, UsageError
from empu.ledger.hashing import content_id
from empu.specialist.dataset import PreparedDataset
from empu.specialist.ensemble import AUTO, MembersPlan, plan_members
from empu.specialist.existing_runs import find_epochs, find_finished
from empu.specialist.identity import run_identity
from empu.specialist.request import TuneRequest, check_request
from empu.specialist.training import load_trainable_model
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.text import load_text_processor
from empu.text.base import TextProcessor
from empu.text.task import Task
from empu.tune.encoding import encode_rows
from empu.tune.examples import TrainingExample
from empu.tune.recipe import Recipe
from empu.tune.recipe_plan import RecipePlan, choose_recipe, fit_budget, measure_time


@dataclass(frozen=True, slots=True)
class TunePlan:
    """Everything that a tuning run needs before its first step."""

    base: StoredModel
    config: ModelConfig
    text: TextProcessor
    task: Task
    train: Sequence[TrainingExample]
    dev: Sequence[TrainingExample]
    """Encoded validation rows."""
    row_ids: Mapping[str, Sequence[str]]
    """Split -> ids of its rows, in order."""
    recipe_plan: RecipePlan
    identity: str
    request_key: str
    """Key by which the same request finds its run again.

    It is the identity, except with a time budget: then the epochs follow from a measurement, and the key is made from
    the identity before that and the budget.
    """
    members: MembersPlan | None = None
    """Members of a label specialist; ``None`` for other tasks."""

    @property
    def recipe(self) -> Recipe:
        return self.recipe_plan.recipe


def plan_tuning(store: Store, dataset: PreparedDataset, request: TuneRequest) -> TunePlan:
    """Open the base model, encode the rows and choose the recipe.

    With a time budget, a few steps are measured and the epochs that fit are chosen; a run of the same request keeps
    the epochs that it has. Raises :class:`~empu.errors.EmpuError` if the base model is missing, the name belongs to
    another model, or the rows make no task.
    """
    check_request(store, request)
    base = _find_base(store, request.base)
    task = task_of(dataset.kind, dataset.train)
    with open_checkpoint(base.path) as checkpoint:
        config = checkpoint.config
        text = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata)
    train, dev = (encode_rows(text, task, rows) for rows in (dataset.train, dataset.dev))
    recipe_plan = choose_recipe(
        config,
        train,
        method=request.method,
        labels=task.kind == "label",
        rank=request.rank,
        epochs=request.epochs,
        learning_rate=request.learning_rate,
        precision=request.precision,
        seed=request.seed,
        threads=request.threads,
    )
    if (reason := _reason_for_free_text(dataset, task)) is not None:
        recipe_plan = replace(recipe_plan, reasons=(reason, *recipe_plan.reasons))
    row_ids = {
        "train": list(dataset.train.ids()),
        "dev": list(dataset.dev.ids()),
        # No weight depends on these rows, but the calibration and the scores do.
        "test": list(dataset.test.ids()),
        "out_of_scope": sorted(row.id for row in dataset.out_of_scope),
        "out_of_scope_test": sorted(row.id for row in dataset.out_of_scope_test),
    }
    members = _plan_members(store, dataset, request, task)
    identity = request_key = _identity(base, recipe_plan, task, row_ids, members)
    if request.budget is not None:
        request_key = content_id({"identity": identity, "budget": request.budget})
    if not request.replace and find_finished(store, request.name, request_key) is None:
        store.check_name_free(request.name, None, "choose another one with --name, or move it with --replace")
    plan = TunePlan(base, config, text, task, train, dev, row_ids, recipe_plan, identity, request_key, members)
    if request.budget is None:
        return plan
    return _fit_budget(plan, request.budget, find_epochs(store, request.name, request_key))


def measure_plan(plan: TunePlan) -> RecipePlan:
    """Return the recipe plan with its time, measured on a few steps of a model that is then dropped."""
    if plan.recipe_plan.seconds is not None:
        return plan.recipe_plan
    return measure_time(plan.recipe_plan, load_trainable_model(plan.base.path, plan.recipe), plan.train)


def _find_base(store: Store, name: str) -> StoredModel:
    model = store.resolve(name)
    if not isinstance(model, StoredModel):
        raise StoreError(f"{name} is not in the store; add it first with: empu pull --link {name}")
    if model.record.base is not None:
        raise StoreError(f"{name} is a specialist itself; tune its base model, {model.record.base_models[0]}, instead.")
    store.verify(model)
    return model


def _plan_members(store: Store, dataset: PreparedDataset, request: TuneRequest, task: Task) -> MembersPlan | None:
    if task.kind == "label":
        return plan_members(request.members, installed_encoders(store.home))
    if request.members != AUTO:
        raise UsageError("--members is for labelled rows, and these have no labels; leave it out.")
    return None


def _identity(
    base: StoredModel,
    recipe_plan: RecipePlan,
    task: Task,
    row_ids: Mapping[str, Sequence[str]],
    members: MembersPlan | None,
) -> str:
    parts = members.to_json() if members is not None else None
    return run_identity(base.record.id, recipe_plan.recipe, task, row_ids, parts)


def _reason_for_free_text(dataset: PreparedDataset, task: Task) -> str | None:
    """Return why answers keep to no schema although most completions are JSON objects."""
    if dataset.kind is not Kind.COMPLETION or task.schema is not None:
        return None
    others = [row for row in dataset.train if parse_object(str(row.fields["completion"])) is None]
    if 2 * len(others) >= len(dataset.train):
        return None
    return (
        f"free text: {len(others):,} of {len(dataset.train):,} completions are not JSON objects, the first in "
        f"{others[0].source}:{others[0].number}; without them, answers would keep to the schema of the others"
    )


def _fit_budget(plan: TunePlan, budget: float, earlier_epochs: int | None) -> TunePlan:
    """Return the plan with the epochs that fit, or those of an earlier run, and the identity that follows."""
    if earlier_epochs is None:
        recipe_plan = fit_budget(measure_plan(plan), budget)
    else:
        reason = f"{earlier_epochs} of {plan.recipe.epochs} epochs, as chosen for this budget when the run started"
        recipe = replace(plan.recipe, epochs=earlier_epochs)
        recipe_plan = replace(plan.recipe_plan, recipe=recipe, reasons=(*plan.recipe_plan.reasons, reason))
    identity = _identity(plan.base, recipe_plan, plan.task, plan.row_ids, plan.members)
    return replace(plan, recipe_plan=recipe_plan, identity=identity)
