"""Routes of Anthropic's interface."""

from __future__ import annotations

from starlette.routing import Route

from empu.server.anthropic.handlers import count_tokens, messages

ROUTES = [
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
]
