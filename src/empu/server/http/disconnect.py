"""Detects that the client of a request has disconnected."""

from __future__ import annotations

from starlette.requests import Request

from empu.serving.completions import Disconnect


def disconnect_of(request: Request) -> Disconnect:
    """Return a callable that waits until the client is gone. The body must have been read before."""

    async def wait_for_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return wait_for_disconnect
