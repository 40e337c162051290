"""Middleware: gives each request an id, logs it and counts it."""

from __future__ import annotations

import json
import logging
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from empu.server.http.logs import REQUEST_LOGGER
from empu.server.http.metrics import Metrics

log = logging.getLogger(REQUEST_LOGGER)


class RequestLogMiddleware:
    """Sets ``scope["empu.request_id"]``, and the response headers with it; writes one log line for each request.

    The header ``x-empu-ignored`` lists the properties that had no effect.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at, status, request_id = time.perf_counter(), 0, f"req_{secrets.token_hex(8)}"
        scope["empu.request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = headers["request-id"] = request_id
                if ignored := scope.get("empu.ignored"):
                    headers["x-empu-ignored"] = ", ".join(ignored)
            await send(message)

        self._metrics.active_requests += 1
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            self._metrics.active_requests -= 1
            self._record(scope, status, time.perf_counter() - started_at, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests[route, status] += 1
        self._metrics.request_durations.observe(seconds)
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request": request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "key": scope.get("empu.key"),
            **scope.get("empu.log_fields", {}),
        }
        log.info("%s", json.dumps(line))
