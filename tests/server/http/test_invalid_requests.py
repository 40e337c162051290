"""Invalid requests: each gets a 4xx with a reason, never a 5xx or no response."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.resources.messages import Messages
from openai.resources.chat.completions import Completions as ChatCompletions
from openai.resources.completions import Completions as TextCompletions
from openai.resources.embeddings import Embeddings
from openai.resources.responses import Responses
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Message

from empu.server.anthropic.protocol import CountTokensRequest, MessagesRequest
from empu.server.http.body import MAX_BODY_BYTES, MAX_DEPTH, read_body, validation_error
from empu.server.http.request_model import RequestBody
from empu.server.http.sessions import cookie_name
from empu.server.openai.protocol.chat import ChatRequest
from empu.server.openai.protocol.completions import CompletionRequest
from empu.server.openai.protocol.embeddings import EmbeddingsRequest
from empu.server.openai.protocol.responses import ResponsesRequest
from empu.server.openapi import BODIES as BODY_TYPES
from empu.serving.errors import RequestError
from tests.server.raw_http import request, send
from tests.server.running_server import RunningServer

CHAT, TEXT, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
USER_MESSAGE = [{"role": "user", "content": "Hi"}]
VALID = {"model": "tiny", "messages": USER_MESSAGE, "max_tokens": 3}


def chat_body(**fields: Any) -> bytes:
    return json.dumps({**VALID, **fields}).encode()


def nested(depth: int) -> bytes:
    return b'{"model":"tiny","messages":' + b"[" * depth + b"]" * depth + b"}"


MANY = 50_000
LARGE_SCHEMA_FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["x" * 70_000]}}}
LENIENT_SCHEMA = {"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}
LENIENT_FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": LENIENT_SCHEMA}}
WIDE_SCHEMA = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(1500)}}
WIDE_FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": WIDE_SCHEMA}}
BODIES: dict[str, tuple[str, bytes]] = {
    "empty": (CHAT, b""),
    "no json": (CHAT, b"hello"),
    "cut off": (CHAT, chat_body()[:-5]),
    "two documents": (CHAT, chat_body() * 2),
    "a list": (CHAT, b"[]"),
    "a string": (CHAT, b'"x"'),
    "null": (CHAT, b"null"),
    "a number": (CHAT, b"1"),
    "not utf-8": (CHAT, b'{"model":"\xff\xfe"}'),
    "utf-16": (CHAT, chat_body().decode().encode("utf-16")),
    "byte order mark": (CHAT, b"\xef\xbb\xbf" + chat_body()),
    "a key twice": (CHAT, b'{"model":"base","model":"tiny","messages":[{"role":"user","content":"a"}]}'),
    "a nested key twice": (CHAT, b'{"model":"tiny","messages":[{"role":"user","role":"user","content":"a"}]}'),
    "NaN": (CHAT, b'{"model":"tiny","messages":[],"temperature":NaN}'),
    "Infinity": (CHAT, b'{"model":"tiny","messages":[],"temperature":-Infinity}'),
    "1e999": (CHAT, b'{"model":"tiny","messages":[{"role":"user","content":"a"}],"temperature":1e999}'),
    "a number of 10,000 digits": (CHAT, b'{"seed":' + b"9" * 10_000 + b"}"),
    "a little too deep": (CHAT, nested(MAX_DEPTH)),
    "much too deep": (CHAT, nested(100_000)),
    "NUL": (CHAT, b"\0" * 100),
    "lone surrogate in content": (CHAT, b'{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}'),
    "lone surrogate in model": (CHAT, b'{"model":"\\ud800","messages":[{"role":"user","content":"a"}]}'),
    "lone surrogate in a name": (CHAT, b'{"\\ud800":1,"model":"tiny","messages":[{"role":"user","content":"a"}]}'),
    "no model": (CHAT, json.dumps({"messages": USER_MESSAGE}).encode()),
    "empty model": (CHAT, chat_body(model="")),
    "unknown model": (CHAT, chat_body(model="nobody")),
    "model as path": (CHAT, chat_body(model="../../etc/passwd")),
    "long model": (CHAT, chat_body(model="m" * 5000)),
    "model as number": (CHAT, chat_body(model=1)),
    "no messages": (CHAT, b'{"model":"tiny"}'),
    "empty messages": (CHAT, chat_body(messages=[])),
    "messages as string": (CHAT, chat_body(messages="Hi")),
    "too many messages": (CHAT, chat_body(messages=USER_MESSAGE * 1001)),
    "unknown role": (CHAT, chat_body(messages=[{"role": "robot", "content": "a"}])),
    "no role": (CHAT, chat_body(messages=[{"content": "a"}])),
    "no content": (CHAT, chat_body(messages=[{"role": "user"}])),
    "content as number": (CHAT, chat_body(messages=[{"role": "user", "content": 5}])),
    "content as image": (CHAT, chat_body(messages=[{"role": "user", "content": [{"type": "image_url"}]}])),
    "stop as number": (CHAT, chat_body(stop=5)),
    "stop too long": (CHAT, chat_body(stop="x" * 201)),
    "n zero": (CHAT, chat_body(n=0)),
    "n negative": (CHAT, chat_body(n=-1)),
    "n fraction": (CHAT, chat_body(n=1.5)),
    "n true": (CHAT, chat_body(n=True)),
    "max_tokens huge": (CHAT, chat_body(max_tokens=1 << 40)),
    "max_tokens string": (CHAT, chat_body(max_tokens="5")),
    "seed too large": (CHAT, chat_body(seed=1 << 70)),
    "stream as string": (CHAT, chat_body(stream="yes")),
    "schema not an object": (CHAT, chat_body(response_format={"type": "json_schema", "json_schema": 5})),
    "schema too large": (CHAT, chat_body(response_format=LARGE_SCHEMA_FORMAT)),
    "chat with a base model": (CHAT, chat_body(model="base")),
    "schema with options": (CHAT, chat_body(response_format=LENIENT_FORMAT)),
    "schema too large for the parser": (CHAT, chat_body(response_format=WIDE_FORMAT, stream=True)),
    "text without prompt": (TEXT, b'{"model":"base"}'),
    "text with empty list": (TEXT, b'{"model":"base","prompt":[]}'),
    "text with mixed list": (TEXT, b'{"model":"base","prompt":["a",1]}'),
    "text with negative id": (TEXT, b'{"model":"base","prompt":[-1]}'),
    "text with large id": (TEXT, b'{"model":"base","prompt":[320]}'),
    "text of labels": (TEXT, b'{"model":"labels","prompt":"a"}'),
    "best_of": (TEXT, b'{"model":"base","prompt":"a","best_of":3}'),
    "suffix": (TEXT, b'{"model":"base","prompt":"a","suffix":"b"}'),
    "many prompts": (TEXT, json.dumps({"model": "base", "prompt": ["a"] * 257}).encode()),
    "messages without max_tokens": (MESSAGES, json.dumps({"model": "tiny", "messages": USER_MESSAGE}).encode()),
    "messages with image": (MESSAGES, chat_body(messages=[{"role": "user", "content": [{"type": "image"}]}])),
    "messages with many stops": (MESSAGES, chat_body(stop_sequences=["a"] * 17)),
    "many unknown names": (CHAT, chat_body(**{f"p{i}": 0 for i in range(MANY)})),
    "many unknown names in a message": (CHAT, chat_body(messages=[dict.fromkeys(map(str, range(MANY)))])),
    "many parts": (CHAT, chat_body(messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * MANY}])),
    "many wrong parts": (CHAT, chat_body(messages=[{"role": "user", "content": [{}] * MANY}])),
    "many empty prompts": (TEXT, json.dumps({"model": "base", "prompt": [""] * MANY}).encode()),
    "many wrong ids": (TEXT, json.dumps({"model": "base", "prompt": [-1] * MANY}).encode()),
    "messages with many wrong parts": (MESSAGES, chat_body(messages=[{"role": "user", "content": [{}] * MANY}])),
    "responses with many wrong parts": (
        "/v1/responses",
        json.dumps({"model": "tiny", "input": [{"role": "user", "content": [{}] * MANY}]}).encode(),
    ),
    "embeddings of many wrong ids": ("/v1/embeddings", json.dumps({"model": "a", "input": [["x"] * MANY]}).encode()),
}


@pytest.mark.parametrize("name", BODIES)
def test_an_invalid_body_is_refused_with_a_reason(server: RunningServer, name: str) -> None:
    path, body = BODIES[name]
    reply = request(server.port, "POST", path, key=server.key, body=body)
    assert 400 <= reply.status < 500, reply
    error = reply.json["error"]
    assert error["message"].endswith(".")
    assert len(error["message"]) < 1000
    if path.startswith(MESSAGES):
        assert reply.json["type"] == "error"
        assert error["type"] in {"invalid_request_error", "not_found_error"}
    else:
        assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("name", [name for name in BODIES if "many" in name])
def test_validation_stops_after_few_errors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def count_errors(error: ValidationError, body: Any) -> RequestError:
        counts.append(error.error_count())
        return validation_error(error, body)

    monkeypatch.setattr("empu.server.http.body.validation_error", count_errors)
    path, body = BODIES[name]

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    http_request = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(RequestError):
        asyncio.run(read_body(http_request, BODY_TYPES[path]))
    assert sum(counts) < 20


def test_a_schema_may_have_many_properties(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(250)}}
    response_format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    reply = request(server.port, "POST", CHAT, key=server.key, body=chat_body(response_format=response_format))
    assert reply.status == 200, reply


def test_a_sign_in_body_is_limited_to_4_kib(server: RunningServer) -> None:
    reply = request(server.port, "POST", "/api/signin", body=b" " * 5000)
    assert (reply.status, reply.json["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x" * 400}]}, "messages"),
        (TEXT, {"prompt": "x" * 400}, "prompt"),
        ("/v1/responses", {"input": "x" * 400}, "input"),
    ],
)
def test_a_prompt_too_long_is_refused_by_the_name_of_its_property(
    server: RunningServer, path: str, fields: Any, param: str
) -> None:
    reply = request(server.port, "POST", path, key=server.key, body=json.dumps({"model": "tiny", **fields}).encode())
    error = reply.json["error"]
    assert (reply.status, error["param"], error["code"]) == (400, param, "context_length_exceeded")


def test_anthropic_errors_have_the_request_id_of_header_and_log(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="empu.server"):
        for key in (server.key, None):
            reply = request(server.port, "POST", MESSAGES, key=key, body=b"{}")
            assert reply.json["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
            until = time.monotonic() + 20
            while reply.json["request_id"] not in caplog.text and time.monotonic() < until:
                time.sleep(0.01)
            assert reply.json["request_id"] in caplog.text


def test_an_image_is_refused_with_the_path_of_its_part(server: RunningServer) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = chat_body(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}])
    reply = request(server.port, "POST", CHAT, key=server.key, body=body)
    assert (reply.status, reply.json["error"]["param"]) == (400, "messages.0.content.1")
    assert "no images" in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("path", "fields", "param", "reason"),
    [
        (CHAT, {"stop": list("abcdefghijklmnopq")}, "stop", "at most 16"),
        ("/v1/embeddings", {"input": ["cat"] * 3000}, "input", "at most"),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": 5}}},
         "response_format.json_schema.name", "valid string"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
        ("/v1/responses", {"input": [{"type": {}}]}, "input.0", "message, function_call"),
        (CHAT, {"tools": [{"type": {}}]}, "tools.0.type", "function"),
    ],
)  # fmt: skip
def test_errors_name_the_cause_and_the_path_that_was_sent(
    server: RunningServer, path: str, fields: Any, param: str, reason: str
) -> None:
    reply = request(server.port, "POST", path, key=server.key, body=chat_body(**fields))
    assert (reply.status, reply.json["error"]["param"]) == (400, param)
    assert reason in reply.json["error"]["message"]


def test_a_body_too_large_is_refused_before_it_is_read(server: RunningServer) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.key}\r\n"
    reply = send(server.port, f"{head}Content-Length: {10**12}\r\nConnection: close\r\n\r\n".encode())
    assert reply.status == 413
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    chunked = f"{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    with contextlib.suppress(ConnectionError):  # the server may close before all is sent
        assert send(server.port, chunked + chunk * (MAX_BODY_BYTES // len(chunk) + 2)).status == 413
    assert request(server.port, "GET", "/health").status == 200


def test_another_content_type_is_refused(server: RunningServer) -> None:
    reply = request(server.port, "POST", CHAT, key=server.key, body=chat_body(), Content_Type="multipart/form-data")
    assert (reply.status, reply.json["error"]["code"]) == (415, "content_type")
    cookie = f"{cookie_name(server.port)}={server.state.sessions.start('first')}"
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
    ):  # a page of another origin could send these
        reply = request(server.port, "POST", CHAT, body=chat_body(), Content_Type=content_type, Cookie=cookie)
        assert reply.status == 415


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_json_without_its_content_type_is_accepted_with_a_key(server: RunningServer, content_type: str) -> None:
    reply = request(server.port, "POST", CHAT, key=server.key, body=chat_body(), Content_Type=content_type)
    assert reply.status == 200, reply


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"GET",
        b"GET / HTTP/9.9\r\nConnection: close",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ],
)
def test_invalid_http_is_refused(server: RunningServer, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # the server may close before all is sent
        reply = send(server.port, data + b"\r\n\r\n")
        assert 400 <= reply.status < 500
        assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    assert request(server.port, "GET", "/health").status == 200


def test_too_many_headers_and_too_long_a_target_are_refused(server: RunningServer) -> None:
    many_headers = {f"X_{i}": "a" for i in range(200)}
    assert request(server.port, "GET", "/v1/models", key=server.key, body=None, host=None, **many_headers).status == 431
    assert request(server.port, "GET", "/v1/models?" + "a" * 3000, key=server.key).status == 431


def test_unknown_paths_and_methods(server: RunningServer) -> None:
    assert request(server.port, "GET", "/v1/nothing", key=server.key).json["error"]["code"] == "http"
    reply = request(server.port, "DELETE", CHAT, key=server.key)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("method", "body_type"),
    [
        (ChatCompletions.create, ChatRequest),
        (TextCompletions.create, CompletionRequest),
        (Responses.create, ResponsesRequest),
        (Embeddings.create, EmbeddingsRequest),
        (Messages.create, MessagesRequest),
        (Messages.count_tokens, CountTokensRequest),
    ],
)
def test_every_property_of_the_official_clients_is_handled(
    method: Callable[..., Any], body_type: type[RequestBody]
) -> None:
    client_options = {"self", "timeout", "extra_body", "extra_headers", "extra_query"}
    properties = set(inspect.signature(method).parameters) - client_options
    unhandled = properties - set(body_type.model_fields) - set(body_type.ignored) - set(body_type.refused)
    assert not unhandled
    assert not set(body_type.ignored) & set(body_type.refused)
