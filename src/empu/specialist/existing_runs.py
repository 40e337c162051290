"""Runs of the same request, finished or not, as the store has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from empu.store.staging import RUN_PREFIX
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.store.unfinished_runs import PLAN_FILE
from empu.system.files import load_json_object

IDENTITY_FILE = "specialist.json"
"""Beside the weights: the base, the identity of the run, the key of the request, and the recipe."""
TUNED = "tuned"
"""Source kind of a model that was tuned here."""


def staging_key(request_key: str) -> str:
    """Return the name of the folder that an unfinished run has in the store."""
    return f"{RUN_PREFIX}{request_key[:16]}"


def find_finished(store: Store, name: str, request_key: str) -> StoredModel | None:
    """Return the model of that name if it came from the same request."""
    model = store.find_by_name(name)
    if model is None or model.record.source.kind != TUNED:
        return None
    settings = _recorded_settings(model)
    return model if settings.get("asked", settings.get("identity")) == request_key else None


def find_epochs(store: Store, name: str, request_key: str) -> int | None:
    """Return the number of epochs of a run of the same request, finished or not; ``None`` if there is none."""
    if (model := find_finished(store, name, request_key)) is not None:
        return int(_recorded_settings(model)["recipe"]["epochs"])
    try:
        return int(load_json_object(store.tmp_folder / staging_key(request_key) / PLAN_FILE)["epochs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _recorded_settings(model: StoredModel) -> Mapping[str, Any]:
    """Return the content of :data:`IDENTITY_FILE`; empty if it cannot be read."""
    try:
        return load_json_object(model.path / IDENTITY_FILE)
    except (OSError, ValueError):
        return {}
