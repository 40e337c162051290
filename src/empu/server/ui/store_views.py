"""``/api/models`` and ``/api/runs``: models and tuning runs, from the store and the ledger."""

from __future__ import annotations

import asyncio
import dataclasses
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.errors import EmpuError
from empu.ledger.card import model_card
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RecordedEvaluation
from empu.ledger.scores import headline_score
from empu.server.http.app_state import app_state_of
from empu.server.ui.state import ui_state_of
from empu.serving.errors import RequestError
from empu.store.run_curve import build_curve
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.system.files import load_json_object
from empu.text.task import Task, read_task

Json = dict[str, Any]

TUNED = "tuned"
"""``source.kind`` of a specialist."""
PAGE_SIZE = 25
"""Rows in one response."""
MAX_REASONS = 8
"""Reasons for excluded rows on a card."""


async def models(request: Request) -> Response:
    """``GET /api/models``: a summary of each model."""
    names, store = await _names(request), ui_state_of(request).store
    return JSONResponse({"models": await asyncio.to_thread(_summaries, store, names)})


async def model(request: Request) -> Response:
    """``GET /api/models/{name}``: the model card."""
    name, store = request.path_params["name"], ui_state_of(request).store
    if name not in await _names(request):
        raise RequestError(404, f"There is no model {name!r}.", code="model_not_found")
    return JSONResponse(await asyncio.to_thread(_model_card, store, name))


async def rows(request: Request) -> Response:
    """``GET /api/models/{name}/rows``: rows of one split; query parameters ``part`` (the split) and ``offset``."""
    name, store = request.path_params["name"], ui_state_of(request).store
    split, offset = request.query_params.get("part", "train"), request.query_params.get("offset", "0")
    if not offset.isdecimal() or len(offset) > 9:
        raise RequestError(400, f"offset is {offset!r}; it must be a number from 0.", param="offset")
    start = int(offset)

    def read() -> tuple[list[Json], int]:
        stored = store.find_by_name(name)
        if stored is None or stored.record.source.kind != TUNED or not store.ledger_path.is_file():
            return [], 0
        with Ledger.open(store.ledger_path) as ledger:
            run = ledger.run_of_model(stored.record.id)
            if run is None or run.dataset is None:
                return [], 0
            total = sum(num_rows.get(split, 0) for _, num_rows in ledger.sources(stored.record.id))
            page = islice(ledger.rows(run.dataset, split), start, start + PAGE_SIZE)
            rows_json = [
                {
                    "id": row.row_id,
                    "fields": row.fields,
                    "source": row.source.path,
                    "number": row.number,
                    "licence": row.source.licence,
                }
                for row in page
            ]
            return rows_json, total

    rows_json, total = await asyncio.to_thread(read)
    return JSONResponse({"rows": rows_json, "page": PAGE_SIZE, "total": total})


async def runs(request: Request) -> Response:
    """``GET /api/runs``: unfinished runs with their loss curves, and the specialists of finished runs."""
    state, names = ui_state_of(request), await _names(request)

    def read() -> Json:
        specialists = [summary for summary in _summaries(state.store, names) if summary["kind"] == "specialist"]
        unfinished = [dataclasses.asdict(run) for run in state.runs.list_runs()]
        specialists.sort(key=lambda summary: summary["added_at"], reverse=True)
        return {"unfinished": unfinished, "finished": specialists}

    return JSONResponse(await asyncio.to_thread(read))


async def _names(request: Request) -> list[str]:
    return list(await asyncio.to_thread(app_state_of(request).registry.names))


def _summaries(store: Store, names: list[str]) -> list[Json]:
    """Return the summaries of models, with the newest score of each specialist."""
    summaries = [_summary(store, name) for name in names]
    if not store.ledger_path.is_file():
        return summaries
    with Ledger.open(store.ledger_path) as ledger:
        for summary in summaries:
            stored = store.find_by_name(summary["name"])
            score = headline_score(ledger, stored.record.id) if stored is not None else None
            if score is not None:
                summary["score"] = dataclasses.asdict(score)
    return summaries


def _summary(store: Store, name: str) -> Json:
    """Return the summary of a model. A model served from a path has only its name."""
    stored = store.find_by_name(name)
    if stored is None:
        return {"name": name, "kind": "path"}
    record, task = stored.record, _task(stored)
    return {
        "name": name,
        "kind": "specialist" if record.source.kind == TUNED else "base",
        "title": record.title,
        "base": record.base_models[0] if record.source.kind == TUNED and record.base_models else None,
        "task": task.kind if task is not None else None,
        "labels": len(task.labels) if task is not None else 0,
        "context": record.config.get("context_length"),
        "parameters": record.parameters,
        "size": record.size,
        "format": f"{record.format} {record.storage}",
        "licence": record.licence.id,
        "added_at": record.added_at,
    }


def _model_card(store: Store, name: str) -> Json:
    stored = store.find_by_name(name)
    if stored is None:
        return _summary(store, name)
    record, task = stored.record, _task(stored)
    card = _summary(store, name) | {
        "id": tagged(record.id),
        "architecture": record.architecture,
        "config": dict(record.config),
        "licence": dataclasses.asdict(record.licence),
        "source": dataclasses.asdict(record.source),
        "disclosure": dataclasses.asdict(record.disclosure),
        "empu_version": record.empu_version,
        "instruction": task.instruction if task is not None else None,
        "label_names": list(task.labels) if task is not None else [],
        "made": None,
    }
    if record.source.kind == TUNED and store.ledger_path.is_file():
        with Ledger.open(store.ledger_path) as ledger:
            card["made"] = _provenance(ledger, stored)
    return card


def _provenance(ledger: Ledger, stored: StoredModel) -> Json | None:
    """Return how a specialist was made; ``None`` if this ledger does not know."""
    card = model_card(ledger, stored.record.id)
    if card is None:
        return None
    dev_losses, best_epoch = _read_dev_losses(stored)
    return card.to_json() | {
        "reasons": card.exclusion_reasons.most_common(MAX_REASONS),
        "curve": dataclasses.asdict(build_curve(card.losses, dev_losses, best_epoch)),
        "scores": [_score(evaluation) for evaluation in card.evaluations],
        "not_known": [dataclasses.asdict(fact) for fact in card.missing_facts],
    }


def _score(score: RecordedEvaluation) -> Json:
    return {
        "name": score.settings.get("name", score.model),
        "split": score.split,
        "ms_per_answer": score.settings.get("ms_per_answer"),
        "sentence": score.settings.get("sentence"),
        "p_values": score.settings.get("p_values", {}),
        "metrics": {name: dataclasses.asdict(metric) for name, metric in score.metrics.items()},
        "at": score.at,
    }


def _read_dev_losses(stored: StoredModel) -> tuple[list[float], int | None]:
    """Return the validation losses and the best epoch, from the file beside the model's record."""
    try:
        curve = load_json_object(stored.folder / "run" / "curve.json")
        return [float(loss) for loss in curve["dev_losses"]], curve["best_epoch"]
    except (OSError, ValueError, KeyError, TypeError):
        return [], None


def _task(stored: StoredModel) -> Task | None:
    try:
        return read_task(stored.path)
    except EmpuError:
        return None
