"""Server-sent events; an error on the way becomes the last one, in the words of its interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from empu.serving.errors import ProblemError, problem_of


def stream(events: AsyncIterator[str], failed: Callable[[ProblemError], str]) -> Response:
    """The response; ``failed`` writes an error as an event."""
    return _Stream(_to_the_end(events, failed), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _to_the_end(events: AsyncIterator[str], failed: Callable[[ProblemError], str]) -> AsyncIterator[str]:
    try:
        async for event in events:
            yield event
    except Exception as error:
        yield failed(problem_of(error))


class _Stream(StreamingResponse):
    """Without a second task that waits for the client to leave: :class:`~empu.serving.completions.Answers` has one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)
