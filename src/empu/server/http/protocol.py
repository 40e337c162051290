"""One connection: how long it may take to say what it wants, and which one goes when there are too many."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from empu.server.openai.common import error_response
from empu.serving.errors import ProblemError

HEAD_S = 10.0
"""From a connection, or the first byte of a further request on it, to the end of the headers."""
BODY_S = 60.0
"""From there to the end of the body."""
MAX_CONNECTIONS = 1000


class Connection(H11Protocol):
    """uvicorn's, with deadlines. Where there are too many, the one that asks for nothing for longest is closed.

    A body that is late while its request is being answered is left to the guard, which can say so.
    """

    cycle: Any  # None before the first request
    _deadline: asyncio.TimerHandle | None = None
    _awaited: tuple[str, object] | None = None
    """What there is a deadline for, and of which request."""
    _since = 0.0
    """When it last began to wait for a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._await(None)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()
        self._watch()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> None:
        others: list[Any] = [one for one in self.connections if one is not self]
        idle = [one for one in others if one._is_idle and not one.transport.is_closing()]
        if idle:
            min(idle, key=lambda one: one._since).transport.close()

    def _watch(self) -> None:
        """Set the deadline for what is awaited now, unless it is set."""
        state = self.conn.their_state
        if self.transport.is_closing():
            self._await(None)
        elif state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            self._await("head")
        elif state is h11.SEND_BODY:
            self._await("body")
        else:
            self._await(None)

    def _await(self, what: str | None) -> None:
        awaited = None if what is None else (what, self.cycle)
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if what is not None:
            self._deadline = self.loop.call_later(HEAD_S if what == "head" else BODY_S, self._give_up)

    def _give_up(self) -> None:
        self._awaited = self._deadline = None
        if self.transport.is_closing() or not self._is_idle:
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            problem = ProblemError(408, f"The headers were not complete within {HEAD_S:.0f} s.", code="timeout")
            self._send(error_response(problem))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is refused in the same form as everything else."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            said = "What came is not HTTP/1.1; nothing of it was read."
            self._send(error_response(ProblemError(400, said, code="http")))
        self.transport.close()

    def _send(self, response: Response) -> None:
        headers, reason = [*response.raw_headers, (b"connection", b"close")], HTTPStatus(response.status_code).phrase
        head = h11.Response(status_code=response.status_code, headers=headers, reason=reason.encode())
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
