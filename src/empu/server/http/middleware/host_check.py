"""Middleware: checks the ``Host`` and ``Origin`` headers against DNS rebinding and foreign pages."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Scope

from empu.server.http.hosts import is_own_origin
from empu.server.http.middleware.refusal import FormatError, RefusalMiddleware
from empu.serving.errors import RequestError


class HostCheckMiddleware(RefusalMiddleware):
    """Refuses a request with 403 unless it names this server, and comes from its own page if from any."""

    def __init__(self, app: ASGIApp, format_error: FormatError, hosts: frozenset[str]) -> None:
        super().__init__(app, format_error)
        self._hosts = hosts

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise :class:`RequestError` for a foreign host or origin."""
        host_headers = headers.getlist("host")
        if len(host_headers) != 1 or host_headers[0].lower() not in self._hosts:
            raise RequestError(
                403,
                "The Host header does not name this server; use the address that `empu serve` printed, or start it "
                "with --name and the name that you use.",
                code="host",
            )
        if any(not is_own_origin(origin, self._hosts) for origin in headers.getlist("origin")):
            raise RequestError(403, "Pages of other origins may not use this server.", code="origin")
