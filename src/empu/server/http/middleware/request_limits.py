"""Middleware: limits concurrent requests, headers and the length of the target."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Scope

from empu.server.http.metrics import Metrics
from empu.server.http.middleware.refusal import FormatError, RefusalMiddleware
from empu.server.http.protocol import MAX_CONNECTIONS
from empu.serving.errors import RequestError

MAX_HEADERS = 100
MAX_TARGET_BYTES = 2048


class RequestLimitsMiddleware(RefusalMiddleware):
    """Refuses a request with 429 or 431."""

    def __init__(self, app: ASGIApp, format_error: FormatError, metrics: Metrics) -> None:
        super().__init__(app, format_error)
        self._metrics = metrics

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise :class:`RequestError` above a limit."""
        if self._metrics.active_requests > MAX_CONNECTIONS:
            message = f"The server already handles {MAX_CONNECTIONS:,} requests; try again in 1 s."
            raise RequestError(429, message, code="too_many_requests", retry_after_s=1)
        target_bytes = len(scope["raw_path"]) + len(scope["query_string"])
        if len(scope["headers"]) > MAX_HEADERS or target_bytes > MAX_TARGET_BYTES:
            message = f"The request has over {MAX_HEADERS} headers, or its target is over {MAX_TARGET_BYTES:,} bytes."
            raise RequestError(431, message)
