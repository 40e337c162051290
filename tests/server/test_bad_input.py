"""Requests that are wrong in every way that we could think of: each a 4xx with a reason, never a 5xx, never silence."""

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
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Message

from empu.server.anthropic import protocol as anthropic_types
from empu.server.http.body import MAX_BODY_BYTES, MAX_DEPTH, read_body, refusal
from empu.server.http.openapi import BODIES as TYPES
from empu.server.openai import embeddings
from empu.server.openai import protocol as openai_types
from empu.server.openai import responses_protocol as responses_types
from empu.serving.errors import ProblemError
from tests.server.raw import request, send
from tests.server.serving import Running

CHAT, TEXT, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
USER = [{"role": "user", "content": "Hi"}]
GOOD = {"model": "tiny", "messages": USER, "max_tokens": 3}


def changed(**more: Any) -> bytes:
    return json.dumps({**GOOD, **more}).encode()


def nested(depth: int) -> bytes:
    return b'{"model":"tiny","messages":' + b"[" * depth + b"]" * depth + b"}"


MANY = 50_000
LARGE = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["x" * 70_000]}}}
LENIENT_SCHEMA = {"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}
LENIENT = {"type": "json_schema", "json_schema": {"name": "a", "schema": LENIENT_SCHEMA}}
WIDE_SCHEMA = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(1500)}}
WIDE = {"type": "json_schema", "json_schema": {"name": "a", "schema": WIDE_SCHEMA}}
BODIES: dict[str, tuple[str, bytes]] = {
    "empty": (CHAT, b""),
    "no json": (CHAT, b"hello"),
    "cut off": (CHAT, changed()[:-5]),
    "two documents": (CHAT, changed() * 2),
    "a list": (CHAT, b"[]"),
    "a string": (CHAT, b'"x"'),
    "null": (CHAT, b"null"),
    "a number": (CHAT, b"1"),
    "not utf-8": (CHAT, b'{"model":"\xff\xfe"}'),
    "utf-16": (CHAT, changed().decode().encode("utf-16")),
    "byte order mark": (CHAT, b"\xef\xbb\xbf" + changed()),
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
    "no model": (CHAT, json.dumps({"messages": USER}).encode()),
    "empty model": (CHAT, changed(model="")),
    "unknown model": (CHAT, changed(model="nobody")),
    "model as path": (CHAT, changed(model="../../etc/passwd")),
    "long model": (CHAT, changed(model="m" * 5000)),
    "model as number": (CHAT, changed(model=1)),
    "no messages": (CHAT, b'{"model":"tiny"}'),
    "empty messages": (CHAT, changed(messages=[])),
    "messages as string": (CHAT, changed(messages="Hi")),
    "too many messages": (CHAT, changed(messages=USER * 1001)),
    "unknown role": (CHAT, changed(messages=[{"role": "robot", "content": "a"}])),
    "no role": (CHAT, changed(messages=[{"content": "a"}])),
    "no content": (CHAT, changed(messages=[{"role": "user"}])),
    "content as number": (CHAT, changed(messages=[{"role": "user", "content": 5}])),
    "content as image": (CHAT, changed(messages=[{"role": "user", "content": [{"type": "image_url"}]}])),
    "message with more": (CHAT, changed(messages=[{"role": "user", "content": "a", "x": 1}])),
    "stop empty": (CHAT, changed(stop="")),
    "stop as number": (CHAT, changed(stop=5)),
    "stop with empty": (CHAT, changed(stop=["a", ""])),
    "stop too long": (CHAT, changed(stop="x" * 201)),
    "n zero": (CHAT, changed(n=0)),
    "n negative": (CHAT, changed(n=-1)),
    "n fraction": (CHAT, changed(n=1.5)),
    "n true": (CHAT, changed(n=True)),
    "max_tokens huge": (CHAT, changed(max_tokens=1 << 40)),
    "max_tokens string": (CHAT, changed(max_tokens="5")),
    "seed too large": (CHAT, changed(seed=1 << 70)),
    "top_p zero": (CHAT, changed(top_p=0)),
    "stream as string": (CHAT, changed(stream="yes")),
    "schema not an object": (CHAT, changed(response_format={"type": "json_schema", "json_schema": 5})),
    "schema too large": (CHAT, changed(response_format=LARGE)),
    "chat with a base model": (CHAT, changed(model="base")),
    "schema with options": (CHAT, changed(response_format=LENIENT)),
    "schema too large for the parser": (CHAT, changed(response_format=WIDE, stream=True)),
    "text without prompt": (TEXT, b'{"model":"base"}'),
    "text with empty list": (TEXT, b'{"model":"base","prompt":[]}'),
    "text with mixed list": (TEXT, b'{"model":"base","prompt":["a",1]}'),
    "text with negative id": (TEXT, b'{"model":"base","prompt":[-1]}'),
    "text with large id": (TEXT, b'{"model":"base","prompt":[320]}'),
    "text of labels": (TEXT, b'{"model":"labels","prompt":"a"}'),
    "best_of": (TEXT, b'{"model":"base","prompt":"a","best_of":3}'),
    "suffix": (TEXT, b'{"model":"base","prompt":"a","suffix":"b"}'),
    "many prompts": (TEXT, json.dumps({"model": "base", "prompt": ["a"] * 17}).encode()),
    "messages without max_tokens": (MESSAGES, json.dumps({"model": "tiny", "messages": USER}).encode()),
    "messages with thinking": (MESSAGES, changed(thinking={"type": "enabled", "budget_tokens": 2000})),
    "messages with image": (MESSAGES, changed(messages=[{"role": "user", "content": [{"type": "image"}]}])),
    "messages with effort": (MESSAGES, changed(output_config={"effort": "high"})),
    "messages too hot": (MESSAGES, changed(temperature=1.5)),
    "messages with many stops": (MESSAGES, changed(stop_sequences=["a"] * 17)),
    "many unknown names": (CHAT, changed(**{f"p{i}": 0 for i in range(MANY)})),
    "many unknown names in a message": (CHAT, changed(messages=[dict.fromkeys(map(str, range(MANY)))])),
    "many parts": (CHAT, changed(messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * MANY}])),
    "many wrong parts": (CHAT, changed(messages=[{"role": "user", "content": [{}] * MANY}])),
    "many empty prompts": (TEXT, json.dumps({"model": "base", "prompt": [""] * MANY}).encode()),
    "many wrong ids": (TEXT, json.dumps({"model": "base", "prompt": [-1] * MANY}).encode()),
    "messages with many wrong parts": (MESSAGES, changed(messages=[{"role": "user", "content": [{}] * MANY}])),
    "responses with many wrong parts": (
        "/v1/responses",
        json.dumps({"model": "tiny", "input": [{"role": "user", "content": [{}] * MANY}]}).encode(),
    ),
    "embeddings of many wrong ids": ("/v1/embeddings", json.dumps({"model": "a", "input": [["x"] * MANY]}).encode()),
    "count with more": (MESSAGES + "/count_tokens", changed(invented=1)),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_with_a_reason(running: Running, name: str) -> None:
    path, body = BODIES[name]
    reply = request(running.port, "POST", path, key=running.key, body=body)
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
def test_the_errors_of_a_body_are_few(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(error: ValidationError) -> ProblemError:
        counts.append(error.error_count())
        return refusal(error)

    monkeypatch.setattr("empu.server.http.body.refusal", counted)
    path, body = BODIES[name]

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    asked = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(ProblemError):
        asyncio.run(read_body(asked, TYPES[path]))
    assert sum(counts) < 20


def test_a_schema_may_have_many_properties(running: Running) -> None:
    schema = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(250)}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    reply = request(running.port, "POST", CHAT, key=running.key, body=changed(response_format=form))
    assert reply.status == 200, reply


def test_little_is_read_of_those_who_sign_in(running: Running) -> None:
    reply = request(running.port, "POST", "/api/signin", body=b" " * 5000)
    assert (reply.status, reply.json["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "given", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x" * 400}]}, "messages"),
        (TEXT, {"prompt": "x" * 400}, "prompt"),
        ("/v1/responses", {"input": "x" * 400}, "input"),
    ],
)
def test_what_is_too_long_is_called_by_its_name(running: Running, path: str, given: Any, param: str) -> None:
    reply = request(running.port, "POST", path, key=running.key, body=json.dumps({"model": "tiny", **given}).encode())
    error = reply.json["error"]
    assert (reply.status, error["param"], error["code"]) == (400, param, "context_length_exceeded")


def test_anthropics_errors_have_the_id_of_header_and_log(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="empu.server"):
        for key in (running.key, None):
            reply = request(running.port, "POST", MESSAGES, key=key, body=b"{}")
            assert reply.json["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
            until = time.monotonic() + 20
            while reply.json["request_id"] not in caplog.text and time.monotonic() < until:
                time.sleep(0.01)
            assert reply.json["request_id"] in caplog.text


def test_a_picture_is_refused_at_its_own_place(running: Running) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [{"type": "text", "text": "What is it?"}, picture]
    reply = request(
        running.port, "POST", CHAT, key=running.key, body=changed(messages=[{"role": "user", "content": parts}])
    )
    assert reply.status == 400
    assert reply.json["error"]["param"].startswith("messages.0.content.1.")


def test_a_body_too_large_is_refused_before_it_is_read(running: Running) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nAuthorization: Bearer {running.key}\r\n"
    announced = send(running.port, f"{head}Content-Length: {10**12}\r\nConnection: close\r\n\r\n".encode())
    assert announced.status == 413
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    chunked = f"{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    with contextlib.suppress(ConnectionError):  # the server may close before it was sent all
        assert send(running.port, chunked + chunk * (MAX_BODY_BYTES // len(chunk) + 2)).status == 413
    assert request(running.port, "GET", "/health").status == 200


def test_another_kind_of_body_is_refused(running: Running) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        reply = request(running.port, "POST", CHAT, key=running.key, body=changed(), Content_Type=kind)
        assert reply.status == 415


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
def test_what_is_no_http_is_refused(running: Running, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # closed before all of it was sent
        reply = send(running.port, data + b"\r\n\r\n")
        assert 400 <= reply.status < 500
        assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    assert request(running.port, "GET", "/health").status == 200


def test_too_many_headers_and_too_long_an_address_are_refused(running: Running) -> None:
    many = {f"X_{i}": "a" for i in range(200)}
    assert request(running.port, "GET", "/v1/models", key=running.key, body=None, host=None, **many).status == 431
    assert request(running.port, "GET", "/v1/models?" + "a" * 3000, key=running.key).status == 431


def test_unknown_addresses_and_methods(running: Running) -> None:
    assert request(running.port, "GET", "/v1/nothing", key=running.key).json["error"]["code"] == "http"
    reply = request(running.port, "DELETE", CHAT, key=running.key)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("method", "model", "module"),
    [
        (ChatCompletions.create, openai_types.ChatRequest, openai_types),
        (TextCompletions.create, openai_types.CompletionRequest, openai_types),
        (Responses.create, responses_types.ResponsesRequest, responses_types),
        (Embeddings.create, embeddings.EmbeddingsRequest, embeddings),
        (Messages.create, anthropic_types.MessagesRequest, anthropic_types),
        (Messages.count_tokens, anthropic_types.CountRequest, anthropic_types),
    ],
)
def test_every_property_that_a_client_knows_is_decided_upon(
    method: Callable[..., Any], model: type[BaseModel], module: Any
) -> None:
    own = {"self", "timeout", "extra_body", "extra_headers", "extra_query"}
    known = set(inspect.signature(method).parameters) - own
    undecided = known - set(model.model_fields) - set(module.IGNORED) - set(module.REFUSED)
    assert not undecided
    assert not set(module.IGNORED) & set(module.REFUSED)
