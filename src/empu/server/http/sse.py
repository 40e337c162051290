"""Server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from empu.serving.errors import RequestError, to_request_error

KEEPALIVE_S = 10.0
"""Proxies and clients close a connection that is silent for longer, as it is while a long prompt is read."""
COMMENT = ": ping\n\n"

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def format_event(data: dict[str, Any], name: str | None = None) -> str:
    """Return one event with JSON data, and its name if it has one."""
    prefix = f"event: {name}\n" if name is not None else ""
    return f"{prefix}data: {_ENCODER.encode(data)}\n\n"


def event_stream(
    events: AsyncIterator[str], format_error: Callable[[RequestError], str], keepalive: str = COMMENT
) -> Response:
    """Return a streamed response.

    An error while streaming becomes the last event, written by ``format_error``. ``keepalive`` is sent after each
    :data:`KEEPALIVE_S` of silence.
    """
    return _EventStreamResponse(_with_errors(events, format_error), keepalive)


async def _with_errors(events: AsyncIterator[str], format_error: Callable[[RequestError], str]) -> AsyncIterator[str]:
    try:
        async for event in events:
            yield event
    except Exception as error:
        yield format_error(to_request_error(error))


class _EventStreamResponse(StreamingResponse):
    """Sends events, and ``keepalive`` while there are none.

    Leaves out the task that waits for a disconnect: ``CompletionStream`` has one already.
    """

    def __init__(self, events: AsyncIterator[str], keepalive: str) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._keepalive = keepalive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keepalive = self._keepalive.encode()
        loop, lock = asyncio.get_running_loop(), asyncio.Lock()
        sent_at, is_open = loop.time(), False

        async def send_event(message: Message) -> None:
            nonlocal sent_at, is_open
            async with lock:
                sent_at = loop.time()
                is_open = message["type"] == "http.response.start" or message.get("more_body", False)
                await send(message)

        async def keep_alive() -> None:
            while True:
                await asyncio.sleep(max(0.0, sent_at + KEEPALIVE_S - loop.time()))
                if loop.time() - sent_at >= KEEPALIVE_S and is_open:
                    await send_event({"type": "http.response.body", "body": keepalive, "more_body": True})

        task = asyncio.create_task(keep_alive())
        try:
            await self.stream_response(send_event)
        finally:
            task.cancel()
