"""Streams in the form of OpenAI's completions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response

from empu.server.http.errors import error_body
from empu.server.http.sse import event_stream, format_event

DONE = "data: [DONE]\n\n"
"""The last event of a stream."""


def completion_stream(events: AsyncIterator[str]) -> Response:
    """Return a streamed response. An error while streaming becomes the last event."""
    return event_stream(events, lambda error: format_event({"error": error_body(error)}))
