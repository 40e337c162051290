"""OpenAPI 3.1 description of the interfaces, generated from the types that validate requests."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from empu import __version__
from empu.server.anthropic.protocol import CountTokensRequest, MessagesRequest
from empu.server.http.request_model import RequestBody
from empu.server.openai.protocol.chat import ChatRequest
from empu.server.openai.protocol.completions import CompletionRequest
from empu.server.openai.protocol.embeddings import EmbeddingsRequest
from empu.server.openai.protocol.responses import ResponsesRequest

Json = dict[str, Any]

BODIES: Mapping[str, type[RequestBody]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/embeddings": EmbeddingsRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountTokensRequest,
}
"""Path -> the body of its POST."""
GET_SUMMARIES = {
    "/v1/models": "Lists the models.",
    "/v1/models/{model}": "Describes one model.",
    "/v1/responses/{id}": "Returns a stored response.",
    "/health": "Whether the server works. Needs no key.",
    "/metrics": "Metrics for Prometheus.",
}
"""Path -> what its GET returns."""
STREAMING_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
ERROR_RESPONSES = {
    "400": "A property is invalid or not supported; the message names it.",
    "401": "A key is needed.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "429": "The queue is full; Retry-After says when to try again (529 for Anthropic's paths).",
}


def document() -> Json:
    """Return the OpenAPI document."""
    types = sorted(set(BODIES.values()), key=lambda kind: kind.__name__)
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in types], ref_template="#/components/schemas/{model}"
    )
    paths: Json = {path: {"post": _post_operation(path, kind)} for path, kind in BODIES.items()}
    for path, summary in GET_SUMMARIES.items():
        paths[path] = {"get": {"summary": summary, "responses": {"200": {"description": "OK"}}}}
    paths["/health"]["get"]["security"] = []
    deleted = {"200": {"description": "OK"}}
    paths["/v1/responses/{id}"]["delete"] = {"summary": "Deletes a stored response.", "responses": deleted}
    for path, name in (("/v1/models/{model}", "model"), ("/v1/responses/{id}", "id")):
        parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for operation in paths[path].values():
            operation["parameters"] = [parameter]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Empu", "version": __version__, "description": "OpenAI's and Anthropic's interfaces."},
        "paths": paths,
        "security": [{"bearer": []}, {"key": []}],
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


async def openapi(request: Request) -> Response:
    """``GET /openapi.json``."""
    return JSONResponse(document())


async def docs(request: Request) -> Response:
    """``GET /docs``: the same as an HTML page, without scripts or styles."""
    description = document()
    parts = [f"<h1>Empu {escape(__version__)}</h1><p>As <a href='/openapi.json'>OpenAPI 3.1</a>.</p>"]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation['summary'])}</p>")
            if path in BODIES and method == "post":
                parts.append(_property_table(description["components"]["schemas"][BODIES[path].__name__]))
    page = "".join(parts)
    return HTMLResponse(f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Empu: HTTP</title>{page}</html>")


def _post_operation(path: str, kind: type[RequestBody]) -> Json:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    content: Json = {"application/json": {}}
    if path in STREAMING_PATHS:
        content["text/event-stream"] = {}
    responses: Json = {"200": {"description": "The answer.", "content": content}}
    return {
        "summary": (kind.__doc__ or "").strip().partition("\n")[0],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": responses | {status: {"description": text} for status, text in ERROR_RESPONSES.items()},
    }


def _property_table(schema: Json) -> str:
    required = set(schema.get("required", []))
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{'yes' if name in required else ''}</td>"
        f"<td><code>{escape(_type_name(property_schema))}</code></td></tr>"
        for name, property_schema in schema["properties"].items()
    ]
    return f"<table><tr><th>property</th><th>required</th><th>takes</th></tr>{''.join(rows)}</table>"


def _type_name(schema: Json) -> str:
    """Return a short text for the type of a property."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(_type_name(member) for member in schema[union])
    if "enum" in schema or "const" in schema:
        return " | ".join(repr(value) for value in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "any"))
    return f"{kind} of {_type_name(schema['items'])}" if kind == "array" and schema.get("items") else kind
