"""HTTP protocol of one connection, with deadlines and a limit on the number of connections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from empu.server.http.errors import error_response
from empu.serving.errors import RequestError

HEADERS_TIMEOUT_S = 10.0
"""From the connection, or the first byte of a further request on it, to the end of the headers."""
BODY_TIMEOUT_S = 60.0
"""From the end of the headers to the end of the body."""
MAX_CONNECTIONS = 1000


class DeadlineProtocol(H11Protocol):
    """uvicorn's protocol, with deadlines. Above the limit, the connection that is idle for longest is closed.

    A body that is late while its request is being handled is left to ``BodyDeadlineMiddleware``, which can respond.
    """

    cycle: Any  # None before the first request
    _deadline: asyncio.TimerHandle | None = None
    _awaited: tuple[str, object] | None = None
    """What the deadline is for, and of which request."""
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS:
            self._close_idlest()
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._set_deadline(None)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and self._has_two_lengths:
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]  # RFC 9112, 6.3
        self._update_deadline()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()
        self._update_deadline()

    @property
    def _has_two_lengths(self) -> bool:
        names = {name for name, _ in self.cycle.scope["headers"]}
        is_unanswered = not self.cycle.response_started and (b"connection", b"close") not in self.cycle.default_headers
        return is_unanswered and {b"content-length", b"transfer-encoding"} <= names

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_idlest(self) -> None:
        others: list[Any] = [connection for connection in self.connections if connection is not self]
        idle = [connection for connection in others if connection._is_idle and not connection.transport.is_closing()]
        if idle:
            min(idle, key=lambda connection: connection._idle_since).transport.close()

    def _update_deadline(self) -> None:
        state = self.conn.their_state
        if self.transport.is_closing():
            self._set_deadline(None)
        elif state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            self._set_deadline("headers")
        elif state is h11.SEND_BODY:
            self._set_deadline("body")
        else:
            self._set_deadline(None)

    def _set_deadline(self, part: str | None) -> None:
        """Set the deadline of ``part``, unless it is set already."""
        awaited = None if part is None else (part, self.cycle)
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if part is not None:
            timeout_s = HEADERS_TIMEOUT_S if part == "headers" else BODY_TIMEOUT_S
            self._deadline = self.loop.call_later(timeout_s, self._time_out)

    def _time_out(self) -> None:
        self._awaited = self._deadline = None
        if self.transport.is_closing() or not self._is_idle:
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            message = f"The headers were not complete within {HEADERS_TIMEOUT_S:.0f} s."
            self._send(error_response(RequestError(408, message, code="timeout")))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Respond to invalid HTTP with the same envelope as to every other error."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(error_response(RequestError(400, "The request is not valid HTTP/1.1.", code="http")))
        self.transport.close()

    def _send(self, response: Response) -> None:
        headers, reason = [*response.raw_headers, (b"connection", b"close")], HTTPStatus(response.status_code).phrase
        start = h11.Response(status_code=response.status_code, headers=headers, reason=reason.encode())
        for event in (start, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
