"""The server process: its socket, and shutdown on SIGTERM or Ctrl-C."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send

from empu.errors import UsageError
from empu.server.http.protocol import DeadlineProtocol

log = logging.getLogger("empu.server")

SHUTDOWN_TIMEOUT_S = 30
"""Time for requests in progress after the first signal."""


class Application(Protocol):
    """An ASGI application that can stop waiting for request bodies."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

    def stop_reading(self) -> None:
        """Stop waiting for request bodies that are incomplete."""


class Server(uvicorn.Server):
    """Runs an application. The first signal lets requests in progress finish; a second one stops at once."""

    def __init__(self, app: Application, on_listening: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=DeadlineProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                timeout_keep_alive=30,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            )
        )
        self._app = app
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_listening is not None and not self.should_exit:
            self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stop_reading()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        is_second = self.should_exit
        super().handle_exit(sig, frame)  # before the message: a second signal may follow the message at once
        if is_second:
            self.force_exit = True
        else:
            log.warning(
                "Stopping: requests in progress have up to %d s; a second signal stops at once.", SHUTDOWN_TIMEOUT_S
            )


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound to ``host`` and ``port`` (0: any free port). Raises :class:`UsageError` on failure."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # IPPROTO_TCP explicitly: only then asyncio turns Nagle's algorithm off, which would delay events by 40 ms.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        is_wrong_host = (
            isinstance(error, socket.gaierror | UnicodeError) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL
        )
        advice = "give a --host of this machine" if is_wrong_host else "choose another --port, or --port 0"
        raise UsageError(f"Cannot listen on {host}:{port} ({reason}); {advice}.") from None
    return bound
