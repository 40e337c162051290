"""Health and metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from empu import __version__
from empu.server.http.app_state import app_state_of


async def health(request: Request) -> Response:
    """``GET /health``: 200, or 503 once after an engine has failed; its model is then opened anew. Needs no key."""
    registry = app_state_of(request).registry
    has_failed = any(engine.scheduler.failure is not None for engine in registry.engines)
    registry.drop_failed()
    status = "failed" if has_failed else "ok"
    return JSONResponse({"status": status, "version": __version__}, 503 if has_failed else 200)


async def metrics(request: Request) -> Response:
    """``GET /metrics`` for Prometheus."""
    state = app_state_of(request)
    return PlainTextResponse(state.metrics.text(state.registry), media_type="text/plain; version=0.0.4")
