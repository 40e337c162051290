"""Handlers of the list of models."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.server.http.app_state import app_state_of
from empu.serving.errors import RequestError


async def list_models(request: Request) -> Response:
    """``GET /v1/models``, in a form that clients of OpenAI and of Anthropic both read."""
    models = await asyncio.to_thread(lambda: [_model_object(request, *item) for item in _names(request).items()])
    first_id, last_id = (models[0]["id"], models[-1]["id"]) if models else (None, None)
    page = {"has_more": False, "first_id": first_id, "last_id": last_id}
    return JSONResponse({"object": "list", "data": models, **page})


async def retrieve_model(request: Request) -> Response:
    """``GET /v1/models/{model}``."""
    names, name = await asyncio.to_thread(_names, request), request.path_params["model"]
    if name not in names:
        raise RequestError(404, f"There is no model {name!r}.", param="model", code="model_not_found")
    return JSONResponse(await asyncio.to_thread(_model_object, request, name, names[name]))


def _names(request: Request) -> dict[str, int]:
    """Return language models and encoders, each with the Unix time at which it was added, or the server started."""
    state = app_state_of(request)
    names = {**dict.fromkeys(state.encoders.names(), 0), **state.registry.names()}
    return {name: added_at or state.started_at for name, added_at in names.items()}


def _model_object(request: Request, name: str, created: int) -> dict[str, Any]:
    openai: dict[str, Any] = {"object": "model", "created": created, "owned_by": "empu"}
    if (context_length := app_state_of(request).registry.context_length(name)) is not None:
        openai["context_length"] = context_length
    created_at = datetime.fromtimestamp(created, UTC).isoformat()
    anthropic = {"type": "model", "display_name": name, "created_at": created_at, "lifecycle": "active"}
    return {"id": name, **openai, **anthropic}
