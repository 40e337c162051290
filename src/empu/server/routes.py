"""All routes of the server."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from empu.server import monitoring, openapi
from empu.server.anthropic.routes import ROUTES as ANTHROPIC_ROUTES
from empu.server.openai.routes import ROUTES as OPENAI_ROUTES
from empu.server.ui.routes import ROUTES as UI_ROUTES
from empu.server.ui.static_files import file_routes

SYSTEM_ROUTES = [
    Route("/health", monitoring.health, methods=["GET"]),
    Route("/metrics", monitoring.metrics, methods=["GET"]),
    Route("/openapi.json", openapi.openapi, methods=["GET"]),
    Route("/docs", openapi.docs, methods=["GET"]),
]


def all_routes() -> list[BaseRoute]:
    """Return the page's files, and the routes of every interface."""
    return [*file_routes(), *SYSTEM_ROUTES, *UI_ROUTES, *ANTHROPIC_ROUTES, *OPENAI_ROUTES]
