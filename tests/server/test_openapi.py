"""The description of the interfaces: every route that programs use, every property, and no other origin."""

from __future__ import annotations

import re

from empu.server.anthropic.messages import ROUTES as ANTHROPIC
from empu.server.http.openapi import BODIES, READS, document
from empu.server.openai.completions import ROUTES as OPENAI
from tests.server.raw import request
from tests.server.serving import Running


def test_every_route_is_described_and_no_other() -> None:
    routes = {(route.path.replace(":path", ""), next(iter(set(route.methods or ()) - {"HEAD"}))) for route in
              (*ANTHROPIC, *OPENAI)}  # fmt: skip
    described = {(path, method.upper()) for path, methods in document()["paths"].items() for method in methods}
    assert described == routes | {("/health", "GET"), ("/metrics", "GET")}
    assert {path for path, _ in described} == set(BODIES) | set(READS)


def test_the_description_is_served_and_its_references_hold(running: Running) -> None:
    served = request(running.port, "GET", "/openapi.json", key=running.key)
    assert served.json == document()
    schemas = served.json["components"]["schemas"]
    references = set(re.findall(rb'"#/components/schemas/([^"]+)"', served.body))
    assert {name.decode() for name in references} <= set(schemas)
    for path, kind in BODIES.items():
        wanted = {field.alias or name for name, field in kind.model_fields.items()}
        assert set(schemas[kind.__name__]["properties"]) == wanted, path


def test_the_page_names_every_property_and_asks_no_other_origin(running: Running) -> None:
    page = request(running.port, "GET", "/docs", key=running.key)
    text = page.body.decode()
    assert page.headers["content-type"].startswith("text/html")
    for path, kind in BODIES.items():
        assert path in text
        assert all(f"<code>{name}</code>" in text for name in kind.model_fields)
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=['\"](?!/)", text)
