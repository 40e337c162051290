"""The interfaces described by OpenAPI 3.1, made from the types that check the requests, and a plain page of it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from empu import __version__
from empu.server.anthropic.protocol import CountRequest, MessagesRequest
from empu.server.openai.embeddings import EmbeddingsRequest
from empu.server.openai.protocol import ChatRequest, CompletionRequest
from empu.server.openai.responses_protocol import ResponsesRequest

Json = dict[str, Any]

BODIES: Mapping[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/embeddings": EmbeddingsRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountRequest,
}
"""Path -> what its POST takes."""
READS = {
    "/v1/models": "The models that can be asked for.",
    "/v1/models/{model}": "One of them.",
    "/health": "That the server answers at all. Needs no key.",
    "/metrics": "Counts and times for Prometheus.",
}
"""Path -> what its GET gives."""
STREAMED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
REFUSALS = {
    "400": "A property is wrong or cannot be kept; the message names it.",
    "401": "A key is needed.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "429": "The queue is full; Retry-After says when to come back (529 for Anthropic's paths).",
}


def document() -> Json:
    """The whole description."""
    kinds = sorted(set(BODIES.values()), key=lambda kind: kind.__name__)
    _, made = models_json_schema([(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}")
    paths: Json = {path: {"post": _post(path, kind)} for path, kind in BODIES.items()}
    for path, said in READS.items():
        paths[path] = {"get": {"summary": said, "responses": {"200": {"description": "OK"}}}}
    paths["/health"]["get"]["security"] = []
    paths["/v1/models/{model}"]["get"]["parameters"] = [
        {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Empu", "version": __version__, "description": "OpenAI's and Anthropic's interfaces."},
        "paths": paths,
        "security": [{"bearer": []}, {"key": []}],
        "components": {
            "schemas": made["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _post(path: str, kind: type[BaseModel]) -> Json:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    content: Json = {"application/json": {}}
    if path in STREAMED:
        content["text/event-stream"] = {}
    answers: Json = {"200": {"description": "The answer.", "content": content}}
    return {
        "summary": (kind.__doc__ or "").strip().partition("\n")[0],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": answers | {status: {"description": said} for status, said in REFUSALS.items()},
    }


async def openapi(request: Request) -> Response:
    """``GET /openapi.json``."""
    return JSONResponse(document())


async def docs(request: Request) -> Response:
    """``GET /docs``: the same for people, without scripts or styles."""
    described = document()
    parts = [f"<h1>Empu {escape(__version__)}</h1><p>As <a href='/openapi.json'>OpenAPI 3.1</a>.</p>"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation['summary'])}</p>")
            if path in BODIES and method == "post":
                parts.append(_table(described["components"]["schemas"][BODIES[path].__name__]))
    page = "".join(parts)
    return HTMLResponse(f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Empu: HTTP</title>{page}</html>")


def _table(schema: Json) -> str:
    needed = set(schema.get("required", []))
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{'yes' if name in needed else ''}</td>"
        f"<td><code>{escape(_shown(one))}</code></td></tr>"
        for name, one in schema["properties"].items()
    ]
    return f"<table><tr><th>property</th><th>required</th><th>takes</th></tr>{''.join(rows)}</table>"


def _shown(schema: Json) -> str:
    """A short word for what a property takes."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(_shown(one) for one in schema[union])
    if "enum" in schema or "const" in schema:
        return " | ".join(repr(one) for one in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "any"))
    return f"{kind} of {_shown(schema['items'])}" if kind == "array" and schema.get("items") else kind
