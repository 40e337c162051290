"""Middleware: limits the time in which a request's body must arrive."""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from empu.server.http.protocol import BODY_TIMEOUT_S, HEADERS_TIMEOUT_S
from empu.serving.errors import RequestError


class BodyDeadlineMiddleware:
    """Raises :class:`RequestError` (408) in the handler that reads a late body. Without a key the limit is shorter."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._timeouts: set[asyncio.Timeout] = set()
        self._is_stopping = False

    def stop_reading(self) -> None:
        """Stop waiting for bodies that are incomplete, since the server shuts down."""
        self._is_stopping = True
        for timeout in self._timeouts:
            timeout.reschedule(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 408:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        timeout_s = BODY_TIMEOUT_S if scope["empu.key"] is not None else HEADERS_TIMEOUT_S
        await self.app(scope, self._with_deadline(receive, timeout_s), send_and_close)

    def _with_deadline(self, receive: Receive, timeout_s: float) -> Receive:
        deadline = asyncio.get_running_loop().time() + timeout_s
        is_complete = False

        async def receive_in_time() -> Message:
            nonlocal is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(0 if self._is_stopping else deadline) as timeout:
                    self._timeouts.add(timeout)
                    try:
                        message = await receive()
                    finally:
                        self._timeouts.discard(timeout)
            except TimeoutError:
                if self._is_stopping:
                    message_text = "The server is stopping; send the request again later."
                    raise RequestError(503, message_text, code="stopping") from None
                message_text = f"The body was not complete within {timeout_s:.0f} s."
                raise RequestError(408, message_text, code="timeout") from None
            is_complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        return receive_in_time
