"""The server as one ASGI application: all interfaces behind the middlewares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from empu.errors import EmpuError
from empu.server.anthropic import errors as anthropic_errors
from empu.server.http import errors as default_errors
from empu.server.http.app_state import AppState
from empu.server.http.middleware.authentication import AuthenticationMiddleware
from empu.server.http.middleware.body_deadline import BodyDeadlineMiddleware
from empu.server.http.middleware.host_check import HostCheckMiddleware
from empu.server.http.middleware.request_limits import RequestLimitsMiddleware
from empu.server.http.middleware.request_log import RequestLogMiddleware
from empu.server.http.middleware.security_headers import SecurityHeadersMiddleware
from empu.server.routes import all_routes
from empu.server.ui.state import UiState
from empu.server.ui.static_files import is_page
from empu.serving.errors import RequestError, to_request_error

PUBLIC_PATHS = frozenset({"/health", "/api/signin"})
"""Paths that need no key, besides the page's files."""
PROMPT_PARAMS = {"/v1/completions": "prompt", "/v1/embeddings": "input", "/v1/responses": "input"}
"""Path -> the property that holds the prompt, where it is not ``messages``."""


class ServerApp:
    """The application for uvicorn."""

    def __init__(self, state: AppState) -> None:
        self.state = state
        self._ui_state = UiState(state.keys.home)
        self._router = self._make_router()
        self._body_deadline = BodyDeadlineMiddleware(self._router)
        # From the inside out: a request passes the last one first.
        app: ASGIApp = self._body_deadline
        app = AuthenticationMiddleware(app, format_error, state.keys, state.sessions, is_public)
        app = HostCheckMiddleware(app, format_error, state.hosts)
        app = RequestLimitsMiddleware(app, format_error, state.metrics)
        app = SecurityHeadersMiddleware(app)
        self._app = RequestLogMiddleware(app, state.metrics)

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes of the server."""
        return self._router.routes

    def stop_reading(self) -> None:
        """Stop waiting for request bodies, since the server shuts down."""
        self._body_deadline.stop_reading()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _make_router(self) -> Starlette:
        handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
            HTTPException: _handle_error,
            EmpuError: _handle_error,
            ClientDisconnect: _handle_disconnect,
            Exception: _handle_error,
        }
        router = Starlette(routes=all_routes(), lifespan=self._lifespan, exception_handlers=handlers)
        router.router.redirect_slashes = False
        router.state.app_state = self.state
        router.state.ui_state = self._ui_state
        return router

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """On shutdown, close the models and finish writing conversations."""
        yield
        await self.state.registry.close(drain=False)
        await asyncio.to_thread(self._ui_state.close)


def is_public(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in PUBLIC_PATHS or is_page(path)


def format_error(scope: Scope, error: RequestError) -> Response:
    """Return the response to a refused request, in the format of the path's interface."""
    if scope["path"].startswith("/v1/messages"):
        return anthropic_errors.error_response(error, scope["empu.request_id"])
    return default_errors.error_response(error)


async def _handle_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        messages = {404: "There is nothing at this address.", 405: "This address does not support that method."}
        message = messages.get(error.status_code, error.detail)
        response = format_error(request.scope, RequestError(error.status_code, message, code="http"))
        response.headers.update(error.headers or {})
        return response
    prompt_param = PROMPT_PARAMS.get(request.scope["path"], "messages")
    return format_error(request.scope, to_request_error(error, prompt_param))


async def _handle_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody receives it
