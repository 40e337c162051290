"""The server as a process: its socket, its log, and its end on SIGTERM or Ctrl-C."""

from __future__ import annotations

import errno
import json
import logging
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from empu.errors import UsageError
from empu.server.http.middleware import Guard
from empu.server.http.protocol import Connection

log = logging.getLogger("empu.server")

DRAIN_S = 30
"""How long answers in progress may take to finish after SIGTERM."""


class Server(uvicorn.Server):
    """The first signal lets what is in progress finish, the second ends at once. Calls ``ready`` when it listens."""

    def __init__(self, app: Guard, ready: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                timeout_keep_alive=30,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self._app = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None and not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stop_reading()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        is_second = self.should_exit
        super().handle_exit(sig, frame)  # before the words, behind which a second signal may come already
        if is_second:
            self.force_exit = True
        else:
            log.warning("Stopping; what is in progress has up to %d s, a second signal ends it at once.", DRAIN_S)


def listen(host: str, port: int) -> socket.socket:
    """A socket at ``host`` and ``port`` (0: a free one). Raises :class:`UsageError` when it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # TCP by name: asyncio turns Nagle's algorithm off only there, and an event would wait 40 ms for the one before.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        is_of_host = (
            isinstance(error, socket.gaierror | UnicodeError) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL
        )
        advice = "give a --host of this machine" if is_of_host else "choose another --port, or --port 0"
        raise UsageError(f"{host}:{port} cannot be served ({reason}); {advice}.") from None
    return listening


class _ForPeople(logging.Formatter):
    """A request's line in short, for a terminal; everything else as it is."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name != "empu.server.requests":
            return text
        line = json.loads(text)
        facts = [line["at"][11:19], str(line["status"]), line["method"], line["route"], f"{line['ms']:,.0f} ms"]
        if "completion_tokens" in line:
            facts.append(
                f"{line.get('model', '')}: {line['prompt_tokens']} tokens read, {line['completion_tokens']} written"
            )
        return "  ".join([*facts, f"({line['key']})" if line["key"] else ""]).rstrip()


def write_log() -> None:
    """A line per request on stderr, in short for a terminal and as one JSON object for anything else; errors of the
    server as plain lines beside them.
    """
    handler = logging.StreamHandler()
    handler.setFormatter((_ForPeople if sys.stderr.isatty() else logging.Formatter)("%(message)s"))
    for name, level in (
        ("empu.server", logging.INFO),
        ("empu.engine", logging.WARNING),
        ("uvicorn.error", logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
