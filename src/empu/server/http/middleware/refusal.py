"""Base class of middlewares that refuse requests."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from empu.errors import EmpuError
from empu.serving.errors import RequestError, to_request_error

FormatError = Callable[[Scope, RequestError], Response]
"""Returns the response to a refused request, in the format of the path's interface."""


class RefusalMiddleware:
    """Responds with an error if :meth:`check` raises one; otherwise calls the next application."""

    def __init__(self, app: ASGIApp, format_error: FormatError) -> None:
        self.app = app
        self._format_error = format_error

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise an :class:`EmpuError` to refuse the request."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self.check(scope, Headers(scope=scope))
            except EmpuError as error:
                await self._format_error(scope, to_request_error(error))(scope, receive, send)
                return
        await self.app(scope, receive, send)
