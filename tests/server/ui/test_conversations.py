"""Conversations of the page: stored, streamed, stopped, exported, and private to their key."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from empu.server.http.sessions import cookie_name
from empu.server.ui.active_answers import ActiveAnswers
from empu.serving.completions import CompletionStream
from tests.server.raw_http import Reply, request
from tests.server.running_server import RunningServer

SHORT_SETTINGS = {"temperature": 0, "max_tokens": 6}


def call(server: RunningServer, method: str, path: str, body: object = None, *, key: str | None = None) -> Reply:
    text = None if body is None else json.dumps(body).encode()
    return request(server.port, method, path, key=key or server.key, body=text)


def create(server: RunningServer, model: str = "tiny", **settings: object) -> str:
    reply = call(server, "POST", "/api/conversations", {"model": model, "settings": {**SHORT_SETTINGS, **settings}})
    assert reply.status == 201, reply
    return str(reply.json["id"])


def events(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200, reply
    assert reply.headers["content-type"].startswith("text/event-stream")
    body = (
        reply.body if b"chunk" not in reply.headers.get("transfer-encoding", "").encode() else _join_chunks(reply.body)
    )
    return [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]


def _join_chunks(chunked: bytes) -> bytes:
    out = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        out += rest[: int(size, 16)]
        chunked = rest[int(size, 16) + 2 :]
    return out


def ask(server: RunningServer, conversation: str, content: str | None, parent: int | None = None) -> dict[str, Any]:
    """Ask and return the question and its answer."""
    received = events(
        call(server, "POST", f"/api/conversations/{conversation}/answers", {"content": content, "parent": parent})
    )
    assert [event["type"] for event in (received[0], received[-1])] == ["begin", "end"]
    streamed = "".join(event["text"] for event in received if event["type"] == "text")
    assert streamed == received[-1]["answer"]["content"]
    return {"question": received[0]["question"], "answer": received[-1]["answer"]}


def test_a_question_and_its_answer_are_stored(server: RunningServer) -> None:
    conversation = create(server)
    first = ask(server, conversation, "hello there")
    facts = first["answer"]["facts"]
    assert facts["model"] == "tiny"
    assert 1 <= facts["completion_tokens"] <= 6
    assert facts["finish_reason"] in {"stop", "length"}
    second = ask(server, conversation, "and then", first["answer"]["id"])
    stored = call(server, "GET", f"/api/conversations/{conversation}").json
    assert stored["title"] == "hello there"
    assert [message["role"] for message in stored["messages"]] == ["user", "assistant"] * 2
    assert stored["leaf"] == second["answer"]["id"]
    assert second["answer"]["facts"]["prompt_tokens"] > facts["prompt_tokens"]
    headings = call(server, "GET", "/api/conversations?search=HELLO").json["conversations"]
    assert conversation in [heading["id"] for heading in headings]


def test_a_regenerated_answer_is_a_sibling_of_the_first(server: RunningServer) -> None:
    conversation = create(server)
    first = ask(server, conversation, "hello")
    again = ask(server, conversation, None, first["question"]["id"])
    assert again["answer"]["parent"] == first["answer"]["parent"] == first["question"]["id"]
    assert again["answer"]["content"] == first["answer"]["content"]  # temperature 0
    for parent in (None, first["answer"]["id"], 999_999):
        body = {"content": None, "parent": parent}
        assert call(server, "POST", f"/api/conversations/{conversation}/answers", body).status in {400, 404}


def test_a_label_specialist_stores_its_confidence(server: RunningServer) -> None:
    conversation = create(server, "labels")
    facts = ask(server, conversation, "where is my card")["answer"]["facts"]
    assert 0 < facts["confidence"] <= 1
    assert len(facts["labels"]) == 3
    assert facts["labels"][0]["logprob"] >= facts["labels"][-1]["logprob"]


def test_a_refused_question_is_not_stored(server: RunningServer) -> None:
    conversation = create(server)
    assert call(server, "POST", f"/api/conversations/{conversation}/answers", {"content": "x" * 3000}).status == 400
    absent = create(server, "absent")
    assert call(server, "POST", f"/api/conversations/{absent}/answers", {"content": "x"}).status == 404
    for conversation_id in (conversation, absent):
        assert call(server, "GET", f"/api/conversations/{conversation_id}").json["messages"] == []
    bodies: list[dict[str, object]] = [{"content": ""}, {"content": 5}, {"content": "a", "more": 1}]
    for body in (*bodies, {"content": "a", "parent": "b"}):
        assert call(server, "POST", f"/api/conversations/{conversation}/answers", body).status == 400
    for settings in ({"temperature": 3}, {"top_p": 0}, {"other": 1}, {"max_tokens": 0}):
        body = {"model": "tiny", "settings": settings}
        assert call(server, "POST", "/api/conversations", body).status == 400


def test_a_conversation_whose_first_question_was_refused_is_not_listed(server: RunningServer) -> None:
    def ids() -> list[str]:
        return [listed["id"] for listed in call(server, "GET", "/api/conversations").json["conversations"]]

    older = create(server)
    ask(server, older, "an older one")
    refused = create(server)
    absent = [create(server, "absent") for _ in range(51)]  # more than one page
    assert call(server, "POST", f"/api/conversations/{refused}/answers", {"content": "x" * 3000}).status == 400
    assert call(server, "POST", f"/api/conversations/{absent[0]}/answers", {"content": "x"}).status == 404
    assert older in ids()
    assert not {refused, *absent} & set(ids())
    ask(server, refused, "shorter")
    assert ids()[0] == refused


def open_stream(server: RunningServer, conversation: str) -> socket.socket:
    """Ask and read until the first text arrives."""
    body = json.dumps({"content": "go on"}).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), 20)
    head = f"POST /api/conversations/{conversation}/answers HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    head += f"Authorization: Bearer {server.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    received = b""
    while b'"type":"text"' not in received:
        part = connection.recv(65536)
        assert part, received
        received += part
    return connection


def wait_for_answer(server: RunningServer, conversation: str) -> dict[str, Any]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        messages = call(server, "GET", f"/api/conversations/{conversation}").json["messages"]
        if messages[-1]["role"] == "assistant":
            answer: dict[str, Any] = messages[-1]
            return answer
        time.sleep(0.05)
    raise AssertionError("the answer was not stored")


def test_a_stopped_answer_keeps_its_text_so_far(server: RunningServer) -> None:
    conversation = create(server, "wide", max_tokens=2000)
    with open_stream(server, conversation) as connection:
        assert call(server, "POST", f"/api/conversations/{conversation}/stop", {}).json == {"stopped": 1}
        received = b""
        while b'"type":"end"' not in received:
            part = connection.recv(65536)
            assert part, received
            received += part
    answer = wait_for_answer(server, conversation)
    assert answer["facts"]["finish_reason"] == "cancelled"
    assert 0 < answer["facts"]["completion_tokens"] < 2000
    assert answer["content"]
    assert call(server, "POST", f"/api/conversations/{conversation}/stop", {}).json == {"stopped": 0}


def test_a_disconnect_keeps_the_text_so_far(server: RunningServer) -> None:
    conversation = create(server, "wide", max_tokens=2000)
    open_stream(server, conversation).close()
    answer = wait_for_answer(server, conversation)
    assert answer["facts"]["finish_reason"] == "cancelled"
    assert answer["content"]
    until = time.monotonic() + 20
    while any(engine.scheduler.load != (0, 0) for engine in server.state.registry.engines):
        assert time.monotonic() < until, "the answer is still generated"
        time.sleep(0.05)


def test_an_answer_in_progress_is_saved_as_one_message(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empu.server.ui.persistence.SAVE_INTERVAL_S", 0.0)
    conversation = create(server, "wide", max_tokens=2000)
    with open_stream(server, conversation) as connection:
        early = wait_for_answer(server, conversation)  # what would remain if the server were killed now
        assert early["facts"]["finish_reason"] == "cancelled"
        assert early["content"]
        assert call(server, "POST", f"/api/conversations/{conversation}/stop", {}).json == {"stopped": 1}
        received = b""
        while b'"type":"end"' not in received:
            received += connection.recv(65536)
    messages = call(server, "GET", f"/api/conversations/{conversation}").json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["id"] == early["id"]
    assert messages[1]["content"].startswith(early["content"])


def test_a_locked_database_blocks_no_request_and_loses_no_answer(server: RunningServer) -> None:
    conversation = create(server, "wide", max_tokens=2000)
    connection = open_stream(server, conversation)
    with closing(sqlite3.connect(server.state.keys.home / "conversations.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        connection.close()
        until = time.monotonic() + 20
        while any(engine.scheduler.load != (0, 0) for engine in server.state.registry.engines):
            assert time.monotonic() < until, "the answer is still generated"
            time.sleep(0.05)
        started_at = time.monotonic()
        assert request(server.port, "GET", "/health").status == 200
        assert time.monotonic() - started_at < 5, "the request waited for the lock"  # SQLite waits up to 10 s
        other.execute("ROLLBACK")
    assert wait_for_answer(server, conversation)["content"]


def test_an_answer_stopped_before_it_starts_is_cancelled() -> None:
    class FakeStream(CompletionStream):
        def __init__(self) -> None:
            self.cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    active_answers = ActiveAnswers()
    active, stream = active_answers.add(("me", "one")), FakeStream()
    assert active_answers.stop("me", "one") == 1
    assert (active_answers.stop("me", "other"), active_answers.stop("you")) == (0, 0)
    assert active_answers.stop("me") == 1
    active.start(stream)
    assert stream.cancelled
    active_answers.remove(("me", "one"), active)
    assert active_answers.stop("me") == 0


def test_title_model_settings_and_branch_can_be_changed(server: RunningServer) -> None:
    conversation = create(server)
    first = ask(server, conversation, "hello")
    ask(server, conversation, None, first["question"]["id"])
    path = f"/api/conversations/{conversation}"
    body = {"title": "Meters", "model": "wide", "leaf": first["answer"]["id"], "settings": {"system": "Be kind."}}
    changed = call(server, "PATCH", path, body).json
    assert (changed["title"], changed["model"], changed["leaf"]) == ("Meters", "wide", first["answer"]["id"])
    assert changed["settings"]["system"] == "Be kind."
    assert call(server, "PATCH", path, {"leaf": 10**9}).status == 404
    assert call(server, "PATCH", path, {"title": ""}).status == 400


def test_exports_contain_everything(server: RunningServer) -> None:
    conversation = create(server)
    ask(server, conversation, "export me")
    reply = call(server, "GET", f"/api/conversations/{conversation}/export")
    assert "attachment" in reply.headers["content-disposition"]
    (only,) = reply.json["conversations"]
    assert only == call(server, "GET", f"/api/conversations/{conversation}").json
    everything = call(server, "GET", "/api/export").json["conversations"]
    assert only in everything


def test_a_key_sees_its_own_conversations_only(server: RunningServer) -> None:
    conversation = create(server)
    other = server.state.keys.add(f"other-{conversation}")
    for method, path in (
        ("GET", f"/api/conversations/{conversation}"),
        ("GET", f"/api/conversations/{conversation}/export"),
        ("PATCH", f"/api/conversations/{conversation}"),
        ("DELETE", f"/api/conversations/{conversation}"),
        ("POST", f"/api/conversations/{conversation}/stop"),
        ("POST", f"/api/conversations/{conversation}/answers"),
    ):
        body = {"content": "x"} if path.endswith("answers") else {}
        assert call(server, method, path, body, key=other).status == 404, path
    assert call(server, "GET", "/api/conversations", key=other).json["conversations"] == []
    assert call(server, "DELETE", f"/api/conversations/{conversation}").json == {"deleted": 1}
    assert call(server, "GET", f"/api/conversations/{conversation}").status == 404


@pytest.mark.parametrize("name", ["link", "unattended"])
def test_sign_in_link_and_first_key_share_conversations(server: RunningServer, name: str) -> None:
    first = server.state.keys.add("first") if "first" not in server.state.keys.names() else None
    cookie = f"{cookie_name(server.port)}={server.state.sessions.start(name)}"
    reply = request(server.port, "POST", "/api/conversations", body=b'{"model": "tiny"}', Cookie=cookie)
    conversation = reply.json["id"]
    if first is not None:
        assert call(server, "GET", f"/api/conversations/{conversation}", key=first).status == 200
    owner = server.state.sessions.start("first")
    seen = request(
        server.port, "GET", f"/api/conversations/{conversation}", Cookie=f"{cookie_name(server.port)}={owner}"
    )
    assert seen.status == 200
