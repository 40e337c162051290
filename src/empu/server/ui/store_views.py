"""``/api/models`` and ``/api/runs``: what the store and the ledger know, for the pages of models and of runs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from empu.errors import EmpuError, StoreError
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RunRecord, Score
from empu.server.http.app_state import context_of
from empu.server.ui.state import desk_of
from empu.serving.errors import ProblemError
from empu.store.store import Store, StoredModel
from empu.store.unfinished_runs import curve_of
from empu.text.task import Task, read_task

Json = dict[str, Any]

TUNED = "tuned"
"""The kind of source of a model that was made here."""
HEADLINES = ("accuracy", "exact match")
"""The measures that lists name, where there is one of them."""
ROWS_SHOWN = 25
REASONS_SHOWN = 8


async def models(request: Request) -> Response:
    """``GET /api/models``: the models that can be asked, each in a few words."""
    names, store = await _names(request), desk_of(request).store
    return JSONResponse({"models": await asyncio.to_thread(_briefs, store, names)})


async def model(request: Request) -> Response:
    """``GET /api/models/{name}``: the card."""
    name, store = request.path_params["name"], desk_of(request).store
    if name not in await _names(request):
        raise ProblemError(404, f"There is no model called {name!r} here.", code="model_not_found")
    return JSONResponse(await asyncio.to_thread(_card, store, name))


async def rows(request: Request) -> Response:
    """``GET /api/models/{name}/rows``: the rows of one part, ``offset`` of them skipped."""
    name, store = request.path_params["name"], desk_of(request).store
    part, offset = request.query_params.get("part", "train"), request.query_params.get("offset", "0")
    if not offset.isdecimal() or len(offset) > 9:
        raise ProblemError(400, f"offset is {offset!r} and should be a number from 0.", param="offset")
    start = int(offset)

    def read() -> tuple[list[Json], int]:
        found = store.named(name)
        if found is None or found.record.source.kind != TUNED or not store.ledger_path.is_file():
            return [], 0
        with Ledger.open(store.ledger_path) as ledger:
            run = _run(ledger, found)
            if run is None or run.dataset is None:
                return [], 0
            total = sum(parts.get(part, 0) for _, parts in ledger.sources(found.record.id))
            places = islice(ledger.rows(run.dataset, part), start, start + ROWS_SHOWN)
            shown = [
                {
                    "id": place.row_id,
                    "fields": place.fields,
                    "source": place.source.path,
                    "number": place.number,
                    "licence": place.source.licence,
                }
                for place in places
            ]
            return shown, total

    shown, total = await asyncio.to_thread(read)
    return JSONResponse({"rows": shown, "page": ROWS_SHOWN, "total": total})


async def runs(request: Request) -> Response:
    """``GET /api/runs``: unfinished ones with their curves, and the models that finished ones gave."""
    desk, names = desk_of(request), await _names(request)

    def read() -> Json:
        done = [one for one in _briefs(desk.store, names) if one["kind"] == "specialist"]
        unfinished = [dataclasses.asdict(run) for run in desk.runs.unfinished()]
        return {"unfinished": unfinished, "finished": sorted(done, key=lambda one: one["added_at"], reverse=True)}

    return JSONResponse(await asyncio.to_thread(read))


async def _names(request: Request) -> list[str]:
    return list(await asyncio.to_thread(context_of(request).catalogue.names))


def _briefs(store: Store, names: list[str]) -> list[Json]:
    """What lists show, and of specialists how well they did."""
    found = [_brief(store, name) for name in names]
    if not store.ledger_path.is_file():
        return found
    with Ledger.open(store.ledger_path) as ledger:
        for one in found:
            stored = store.named(one["name"])
            for score in ledger.scores(stored.record.id)[-1:] if stored is not None else []:
                metric = next((name for name in HEADLINES if name in score.metrics), min(score.metrics))
                value = score.metrics[metric]
                one["score"] = {"metric": metric, "value": value.value, "rows": value.rows}
    return found


def _brief(store: Store, name: str) -> Json:
    """What a list shows of a model. One that was given as a path is known by its name only."""
    found = store.named(name)
    if found is None:
        return {"name": name, "kind": "path"}
    record, task = found.record, _task(found)
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


def _card(store: Store, name: str) -> Json:
    found = store.named(name)
    if found is None:
        return _brief(store, name)
    record, task = found.record, _task(found)
    card = _brief(store, name) | {
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
            card["made"] = _made(ledger, found)
    return card


def _made(ledger: Ledger, found: StoredModel) -> Json | None:
    """How a specialist came to be, from the ledger; ``None`` where that was another store's."""
    run = _run(ledger, found)
    if run is None:
        return None
    identity = found.record.id
    left_out = list(ledger.left_out(run.dataset)) if run.dataset else []
    losses = [step.loss for step in ledger.steps(run.id)]
    curve, best = _kept_curve(found)
    return {
        "lineage": [
            {"name": one.name, "id": tagged(one.id), "licence": one.licence} for one in ledger.lineage(identity)
        ],
        "sources": [{**dataclasses.asdict(source), "rows": parts} for source, parts in ledger.sources(identity)],
        "left_out": len(left_out),
        "reasons": Counter(one.reason for one in left_out).most_common(REASONS_SHOWN),
        "run": dataclasses.asdict(run),
        "curve": dataclasses.asdict(curve_of(losses, curve, best)),
        "scores": [_score(score) for score in _scores(ledger, identity)],
        "not_known": [dataclasses.asdict(one) for one in ledger.missing(identity)],
    }


def _run(ledger: Ledger, found: StoredModel) -> RunRecord | None:
    try:
        recorded = ledger.model(found.record.id)
        return ledger.run(recorded.run) if recorded.run is not None else None
    except StoreError:
        return None


def _scores(ledger: Ledger, identity: str) -> list[Score]:
    """The newest comparison: what the specialist was held against, then itself."""
    own = ledger.scores(identity)[-1:]
    others = [name for score in own for name in score.settings.get("against", ())]
    return [*(score for name in others for score in ledger.scores(name)[-1:]), *own]


def _score(score: Score) -> Json:
    return {
        "name": score.settings.get("name", score.model),
        "split": score.split,
        "ms_per_answer": score.settings.get("ms_per_answer"),
        "sentence": score.settings.get("sentence"),
        "p_values": score.settings.get("p_values", {}),
        "metrics": {name: dataclasses.asdict(metric) for name, metric in score.metrics.items()},
        "at": score.at,
    }


def _kept_curve(found: StoredModel) -> tuple[list[float], int | None]:
    """Losses of the development rows and the epoch whose weights were kept, from beside the model's record."""
    try:
        kept = json.loads((found.folder / "run" / "curve.json").read_text(encoding="utf-8"))
        return [float(loss) for loss in kept["dev_losses"]], kept["best_epoch"]
    except (OSError, ValueError, KeyError, TypeError):
        return [], None


def _task(found: StoredModel) -> Task | None:
    try:
        return read_task(found.path)
    except EmpuError:
        return None


ROUTES = [
    Route("/api/models", models, methods=["GET"]),
    Route("/api/models/{name}", model, methods=["GET"]),
    Route("/api/models/{name}/rows", rows, methods=["GET"]),
    Route("/api/runs", runs, methods=["GET"]),
]
