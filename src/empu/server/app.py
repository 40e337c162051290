"""The whole server as one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from empu import __version__
from empu.errors import EmpuError
from empu.server.anthropic import messages
from empu.server.http.app_state import Context, context_of
from empu.server.http.auth import SESSION_LIFE_S, cookie_name
from empu.server.http.body import read_body
from empu.server.http.middleware import Guard, session_cookie
from empu.server.http.openapi import docs, openapi
from empu.server.openai import common, completions
from empu.server.openai.tool_protocol import Strict
from empu.server.ui import conversations, feedback, static_files, store_views
from empu.server.ui.state import Desk
from empu.serving.errors import ProblemError, problem_of

PUBLIC = frozenset({"/health", "/api/signin"})
"""Paths without a key, beside the page."""
MAX_SIGN_IN_BYTES = 4096
"""Anybody may send one."""
PROMPTS = {"/v1/completions": "prompt", "/v1/embeddings": "input", "/v1/responses": "input"}
"""Where the property that may be too long is not called ``messages``."""


class SignIn(Strict):
    """A one-time code from the sign-in link, or a key."""

    code: str = Field(min_length=1, max_length=200)


def make_app(context: Context) -> Guard:
    """The application for uvicorn. When it ends, what is in progress is finished first."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await context.catalogue.close(drain=False)
        await asyncio.to_thread(desk.writing.close)

    desk = Desk(context.keys.home)
    routes = [
        *static_files.routes(),
        Route("/health", health, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
        Route("/api/signin", sign_in, methods=["POST"]),
        Route("/api/signout", sign_out, methods=["POST"]),
        Route("/api/me", me, methods=["GET"]),
        *conversations.ROUTES,
        *feedback.ROUTES,
        *store_views.ROUTES,
        *messages.ROUTES,
        *completions.ROUTES,
    ]
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        HTTPException: _refused,
        EmpuError: _refused,
        ClientDisconnect: _left,
        Exception: _refused,
    }
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.desk = desk
    return Guard(app, context, lambda path: path in PUBLIC or static_files.is_page(path), respond)


def respond(scope: Scope, problem: ProblemError) -> Response:
    """A refusal in the words of the interface that the request's path belongs to."""
    if scope["path"].startswith("/v1/messages"):
        return messages.error_response(problem, scope["empu.request"])
    return common.error_response(problem)


async def health(request: Request) -> Response:
    """``GET /health``: that the server answers, and its models too (503 otherwise). Needs no key."""
    failed = any(engine.scheduler.failure is not None for engine in context_of(request).catalogue.engines)
    return JSONResponse({"status": "failed" if failed else "ok", "version": __version__}, 503 if failed else 200)


async def metrics(request: Request) -> Response:
    """``GET /metrics`` for Prometheus."""
    context = context_of(request)
    return PlainTextResponse(context.metrics.text(context.catalogue), media_type="text/plain; version=0.0.4")


async def sign_in(request: Request) -> Response:
    """``POST /api/signin``: a cookie for a one-time code or a key."""
    context = context_of(request)
    code = (await read_body(request, SignIn, most=MAX_SIGN_IN_BYTES)).code
    key = None if context.sessions.use(code) else code
    owner = "link" if key is None else context.keys.owner(key)
    if owner is None:
        message = "This key is unknown, or the link was used or is too old; give a key, or start the server again."
        raise ProblemError(401, message, code="invalid_code")
    response = JSONResponse({"signed_in": True})
    cookie = context.sessions.begin(owner, key)
    name = cookie_name(request.scope["server"][1])
    response.set_cookie(name, cookie, max_age=SESSION_LIFE_S, httponly=True, samesite="strict")
    return response


async def sign_out(request: Request) -> Response:
    """``POST /api/signout``."""
    context_of(request).sessions.end(session_cookie(request.scope, request.headers))
    response = JSONResponse({"signed_in": False})
    response.delete_cookie(cookie_name(request.scope["server"][1]))
    return response


async def me(request: Request) -> Response:
    """``GET /api/me``: whether the browser is signed in (401 otherwise), and what the page shows."""
    names, key = context_of(request).catalogue.names(), request.scope["empu.key"]
    return JSONResponse({"version": __version__, "models": list(names), "key": key})


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        reasons = {404: "There is nothing at this address.", 405: "This address does not know that method."}
        message = reasons.get(error.status_code, error.detail)
        response = respond(request.scope, ProblemError(error.status_code, message, code="http"))
        response.headers.update(error.headers or {})
        return response
    return respond(request.scope, problem_of(error, PROMPTS.get(request.scope["path"], "messages")))


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it
