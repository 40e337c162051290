"""The OpenAPI description covers every route and property, and its page loads nothing from elsewhere."""

from __future__ import annotations

import re

from empu.server.anthropic.routes import ROUTES as ANTHROPIC_ROUTES
from empu.server.openai.routes import ROUTES as OPENAI_ROUTES
from empu.server.openapi import BODIES, GET_SUMMARIES, document
from tests.server.raw_http import request
from tests.server.running_server import RunningServer


def test_exactly_the_routes_are_described() -> None:
    routes = {(route.path.replace(":path", ""), next(iter(set(route.methods or ()) - {"HEAD"}))) for route in
              (*ANTHROPIC_ROUTES, *OPENAI_ROUTES)}  # fmt: skip
    described = {(path, method.upper()) for path, methods in document()["paths"].items() for method in methods}
    assert described == routes | {("/health", "GET"), ("/metrics", "GET")}
    assert {path for path, _ in described} == set(BODIES) | set(GET_SUMMARIES)


def test_the_description_is_served_and_its_references_resolve(server: RunningServer) -> None:
    reply = request(server.port, "GET", "/openapi.json", key=server.key)
    assert reply.json == document()
    schemas = reply.json["components"]["schemas"]
    references = set(re.findall(rb'"#/components/schemas/([^"]+)"', reply.body))
    assert {name.decode() for name in references} <= set(schemas)
    for path, kind in BODIES.items():
        properties = {field.alias or name for name, field in kind.model_fields.items()}
        assert set(schemas[kind.__name__]["properties"]) == properties, path


def test_the_page_names_every_property_and_loads_no_other_origin(server: RunningServer) -> None:
    page = request(server.port, "GET", "/docs", key=server.key)
    text = page.body.decode()
    assert page.headers["content-type"].startswith("text/html")
    for path, kind in BODIES.items():
        assert path in text
        assert all(f"<code>{name}</code>" in text for name in kind.model_fields)
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=['\"](?!/)", text)
