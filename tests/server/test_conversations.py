"""The page's addresses: conversations are kept, answered as a stream, stopped, exported, and nobody else's."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from empu.chat.conversations import Conversations
from empu.server.http.auth import cookie_name
from empu.server.ui.persistence import Writing
from empu.serving.completions import Answers
from tests.server.raw import Reply, request
from tests.server.serving import Running

SHORT = {"temperature": 0, "max_tokens": 6}


def call(running: Running, method: str, path: str, body: object = None, *, key: str | None = None) -> Reply:
    text = None if body is None else json.dumps(body).encode()
    return request(running.port, method, path, key=key or running.key, body=text)


def begin(running: Running, model: str = "tiny", **settings: object) -> str:
    reply = call(running, "POST", "/api/conversations", {"model": model, "settings": {**SHORT, **settings}})
    assert reply.status == 201, reply
    return str(reply.json["id"])


def events(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200, reply
    assert reply.headers["content-type"].startswith("text/event-stream")
    body = reply.body if b"chunk" not in reply.headers.get("transfer-encoding", "").encode() else _joined(reply.body)
    return [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]


def _joined(chunked: bytes) -> bytes:
    out = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        out += rest[: int(size, 16)]
        chunked = rest[int(size, 16) + 2 :]
    return out


def ask(running: Running, talk: str, content: str | None, parent: int | None = None) -> dict[str, Any]:
    """The whole turn: the question and its answer."""
    found = events(call(running, "POST", f"/api/conversations/{talk}/answers", {"content": content, "parent": parent}))
    assert [event["type"] for event in (found[0], found[-1])] == ["begin", "end"]
    streamed = "".join(event["text"] for event in found if event["type"] == "text")
    assert streamed == found[-1]["answer"]["content"]
    return {"question": found[0]["question"], "answer": found[-1]["answer"]}


def test_a_question_and_its_answer_are_kept(running: Running) -> None:
    talk = begin(running)
    first = ask(running, talk, "hello there")
    facts = first["answer"]["facts"]
    assert facts["model"] == "tiny"
    assert 1 <= facts["completion_tokens"] <= 6
    assert facts["finish_reason"] in {"stop", "length"}
    second = ask(running, talk, "and then", first["answer"]["id"])
    whole = call(running, "GET", f"/api/conversations/{talk}").json
    assert whole["title"] == "hello there"
    assert [message["role"] for message in whole["messages"]] == ["user", "assistant"] * 2
    assert whole["leaf"] == second["answer"]["id"]
    assert second["answer"]["facts"]["prompt_tokens"] > facts["prompt_tokens"]
    headings = call(running, "GET", "/api/conversations?search=HELLO").json["conversations"]
    assert talk in [one["id"] for one in headings]


def test_another_answer_stands_beside_the_first(running: Running) -> None:
    talk = begin(running)
    first = ask(running, talk, "hello")
    again = ask(running, talk, None, first["question"]["id"])
    assert again["answer"]["parent"] == first["answer"]["parent"] == first["question"]["id"]
    assert again["answer"]["content"] == first["answer"]["content"]  # temperature 0
    for parent in (None, first["answer"]["id"], 999_999):
        body = {"content": None, "parent": parent}
        assert call(running, "POST", f"/api/conversations/{talk}/answers", body).status in {400, 404}


def test_a_specialist_for_labels_answers_with_its_confidence(running: Running) -> None:
    talk = begin(running, "labels")
    facts = ask(running, talk, "where is my card")["answer"]["facts"]
    assert 0 < facts["confidence"] <= 1
    assert len(facts["labels"]) == 3
    assert facts["labels"][0]["logprob"] >= facts["labels"][-1]["logprob"]


def test_what_cannot_be_asked_leaves_no_trace(running: Running) -> None:
    talk = begin(running)
    assert call(running, "POST", f"/api/conversations/{talk}/answers", {"content": "x" * 3000}).status == 400
    gone = begin(running, "absent")
    assert call(running, "POST", f"/api/conversations/{gone}/answers", {"content": "x"}).status == 404
    for one in (talk, gone):
        assert call(running, "GET", f"/api/conversations/{one}").json["messages"] == []
    asked: list[dict[str, object]] = [{"content": ""}, {"content": 5}, {"content": "a", "more": 1}]
    for body in (*asked, {"content": "a", "parent": "b"}):
        assert call(running, "POST", f"/api/conversations/{talk}/answers", body).status == 400
    for settings in ({"temperature": 3}, {"top_p": 0}, {"other": 1}, {"max_tokens": 0}):
        begun = {"model": "tiny", "settings": settings}
        assert call(running, "POST", "/api/conversations", begun).status == 400


def test_a_refused_first_question_leaves_nothing_in_the_list(running: Running) -> None:
    def ids() -> list[str]:
        return [one["id"] for one in call(running, "GET", "/api/conversations").json["conversations"]]

    older = begin(running)
    ask(running, older, "an older one")
    refused = begin(running)
    absent = [begin(running, "absent") for _ in range(51)]  # more than a page of them
    assert call(running, "POST", f"/api/conversations/{refused}/answers", {"content": "x" * 3000}).status == 400
    assert call(running, "POST", f"/api/conversations/{absent[0]}/answers", {"content": "x"}).status == 404
    assert older in ids()
    assert not {refused, *absent} & set(ids())
    ask(running, refused, "shorter")
    assert ids()[0] == refused


def open_stream(running: Running, talk: str) -> socket.socket:
    """Ask and read until the first text has come."""
    body = json.dumps({"content": "go on"}).encode()
    connection = socket.create_connection(("127.0.0.1", running.port), 20)
    head = f"POST /api/conversations/{talk}/answers HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n"
    head += f"Authorization: Bearer {running.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    received = b""
    while b'"type":"text"' not in received:
        part = connection.recv(65536)
        assert part, received
        received += part
    return connection


def kept_answer(running: Running, talk: str) -> dict[str, Any]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        messages = call(running, "GET", f"/api/conversations/{talk}").json["messages"]
        if messages[-1]["role"] == "assistant":
            answer: dict[str, Any] = messages[-1]
            return answer
        time.sleep(0.05)
    raise AssertionError("the answer was not kept")


def test_stop_ends_the_answer_and_keeps_what_there_is(running: Running) -> None:
    talk = begin(running, "wide", max_tokens=2000)
    with open_stream(running, talk) as connection:
        assert call(running, "POST", f"/api/conversations/{talk}/stop", {}).json == {"stopped": 1}
        received = b""
        while b'"type":"end"' not in received:
            part = connection.recv(65536)
            assert part, received
            received += part
    answer = kept_answer(running, talk)
    assert answer["facts"]["finish_reason"] == "cancelled"
    assert 0 < answer["facts"]["completion_tokens"] < 2000
    assert answer["content"]
    assert call(running, "POST", f"/api/conversations/{talk}/stop", {}).json == {"stopped": 0}


def test_who_leaves_finds_what_was_written_until_then(running: Running) -> None:
    talk = begin(running, "wide", max_tokens=2000)
    open_stream(running, talk).close()
    answer = kept_answer(running, talk)
    assert answer["facts"]["finish_reason"] == "cancelled"
    assert answer["content"]
    until = time.monotonic() + 20
    while any(engine.scheduler.load != (0, 0) for engine in running.context.catalogue.engines):
        assert time.monotonic() < until, "the answer is still being written"
        time.sleep(0.05)


def test_an_answer_in_progress_is_kept_as_one_message(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empu.server.ui.persistence.KEEP_S", 0.0)
    talk = begin(running, "wide", max_tokens=2000)
    with open_stream(running, talk) as connection:
        early = kept_answer(running, talk)  # what a server that is killed now leaves
        assert early["facts"]["finish_reason"] == "cancelled"
        assert early["content"]
        assert call(running, "POST", f"/api/conversations/{talk}/stop", {}).json == {"stopped": 1}
        received = b""
        while b'"type":"end"' not in received:
            received += connection.recv(65536)
    messages = call(running, "GET", f"/api/conversations/{talk}").json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["id"] == early["id"]
    assert messages[1]["content"].startswith(early["content"])


def test_a_locked_file_of_conversations_stops_nobody_and_loses_nothing(running: Running) -> None:
    talk = begin(running, "wide", max_tokens=2000)
    connection = open_stream(running, talk)
    with closing(sqlite3.connect(running.context.keys.home / "conversations.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        connection.close()
        until = time.monotonic() + 20
        while any(engine.scheduler.load != (0, 0) for engine in running.context.catalogue.engines):
            assert time.monotonic() < until, "the answer is still being written"
            time.sleep(0.05)
        begun = time.monotonic()
        assert request(running.port, "GET", "/health").status == 200
        assert time.monotonic() - begun < 5, "the file's lock was waited for"  # whoever waits does so for 10 s
        other.execute("ROLLBACK")
    assert kept_answer(running, talk)["content"]


def test_what_is_stopped_before_it_begins_does_not_begin() -> None:
    class Slow(Answers):
        def __init__(self) -> None:
            self.cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    writing = Writing(Conversations(Path("nowhere")))
    ongoing, answers = writing.begin(("me", "talk")), Slow()
    assert (writing.stop("me", "talk"), writing.stop("me", "other"), writing.stop("you")) == (1, 0, 0)
    assert writing.stop("me") == 1
    ongoing.begin(answers)
    assert answers.cancelled
    writing.end(("me", "talk"), ongoing)
    assert writing.stop("me") == 0


def test_names_models_settings_and_branches_are_changed(running: Running) -> None:
    talk = begin(running)
    first = ask(running, talk, "hello")
    ask(running, talk, None, first["question"]["id"])
    path = f"/api/conversations/{talk}"
    body = {"title": "Meters", "model": "wide", "leaf": first["answer"]["id"], "settings": {"system": "Be kind."}}
    changed = call(running, "PATCH", path, body).json
    assert (changed["title"], changed["model"], changed["leaf"]) == ("Meters", "wide", first["answer"]["id"])
    assert changed["settings"]["system"] == "Be kind."
    assert call(running, "PATCH", path, {"leaf": 10**9}).status == 404
    assert call(running, "PATCH", path, {"title": ""}).status == 400


def test_exports_hold_everything(running: Running) -> None:
    talk = begin(running)
    ask(running, talk, "export me")
    reply = call(running, "GET", f"/api/conversations/{talk}/export")
    assert "attachment" in reply.headers["content-disposition"]
    (only,) = reply.json["conversations"]
    assert only == call(running, "GET", f"/api/conversations/{talk}").json
    everything = call(running, "GET", "/api/export").json["conversations"]
    assert only in everything


def test_a_key_sees_its_own_conversations_only(running: Running) -> None:
    talk = begin(running)
    other = running.context.keys.add(f"other-{talk}")
    for method, path in (
        ("GET", f"/api/conversations/{talk}"),
        ("GET", f"/api/conversations/{talk}/export"),
        ("PATCH", f"/api/conversations/{talk}"),
        ("DELETE", f"/api/conversations/{talk}"),
        ("POST", f"/api/conversations/{talk}/stop"),
        ("POST", f"/api/conversations/{talk}/answers"),
    ):
        body = {"content": "x"} if path.endswith("answers") else {}
        assert call(running, method, path, body, key=other).status == 404, path
    assert call(running, "GET", "/api/conversations", key=other).json["conversations"] == []
    assert call(running, "DELETE", f"/api/conversations/{talk}").json == {"deleted": 1}
    assert call(running, "GET", f"/api/conversations/{talk}").status == 404


@pytest.mark.parametrize("name", ["link", "unattended"])
def test_the_links_of_the_start_and_the_first_key_are_one_person(running: Running, name: str) -> None:
    first = running.context.keys.add("first") if "first" not in running.context.keys.names() else None
    cookie = f"{cookie_name(running.port)}={running.context.sessions.begin(name)}"
    reply = request(running.port, "POST", "/api/conversations", body=b'{"model": "tiny"}', Cookie=cookie)
    talk = reply.json["id"]
    if first is not None:
        assert call(running, "GET", f"/api/conversations/{talk}", key=first).status == 200
    owner = running.context.sessions.begin("first")
    seen = request(running.port, "GET", f"/api/conversations/{talk}", Cookie=f"{cookie_name(running.port)}={owner}")
    assert seen.status == 200
