"""Feedback on answers is stored, counted and exported as training rows."""

from __future__ import annotations

import json
from pathlib import Path

from tests.server.running_server import RunningServer
from tests.server.ui.test_conversations import ask, call, create


def test_feedback_becomes_training_rows(server: RunningServer) -> None:
    conversation = create(server)
    first = ask(server, conversation, "hello")["answer"]
    assert first["content"]
    path = f"/api/messages/{first['id']}/feedback"
    assert call(server, "PUT", path, {"verdict": "up"}).json["verdict"] == "up"
    rated = call(server, "PUT", path, {"verdict": "down", "correction": "Good day."}).json
    assert (rated["verdict"], rated["correction"]) == ("down", "Good day.")
    overview = call(server, "GET", "/api/feedback").json
    assert (overview["up"], overview["down"], overview["corrections"]) == (0, 1, 1)
    assert overview["rows"] == {"labels": 0, "messages": 1, "preferences": 1}
    assert overview["items"][0]["question"] == "hello"
    reply = call(server, "GET", "/api/feedback/rows/messages")
    row = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Good day."}]}
    assert [json.loads(line) for line in reply.body.decode().splitlines()] == [row]
    assert "attachment" in reply.headers["content-disposition"]
    saved = call(server, "POST", "/api/feedback/save", {"kind": "messages"}).json
    assert saved["rows"] == 1
    assert Path(saved["path"]).read_bytes() == reply.body
    assert saved["path"] in saved["command"]
    assert call(server, "PUT", path, {}).json["correction"] is None
    assert call(server, "POST", "/api/feedback/save", {"kind": "messages"}).status == 400


def test_invalid_feedback_is_refused(server: RunningServer) -> None:
    conversation = create(server)
    turn = ask(server, conversation, "hello")
    path = f"/api/messages/{turn['answer']['id']}/feedback"
    for body in ({"verdict": "sideways"}, {"correction": ""}, {"correction": " \n"}, {"more": 1}):
        assert call(server, "PUT", path, body).status == 400
    assert call(server, "PUT", f"/api/messages/{turn['question']['id']}/feedback", {"verdict": "up"}).status == 404
    assert call(server, "PUT", "/api/messages/99999/feedback", {"verdict": "up"}).status == 404
    assert call(server, "PUT", f"/api/messages/{2**80}/feedback", {"verdict": "up"}).status in {400, 404}
    assert call(server, "GET", "/api/feedback/rows/other").status == 404
    assert call(server, "POST", "/api/feedback/save", {"kind": "other"}).status == 400
    other = server.state.keys.add(f"reader-{conversation}")
    assert call(server, "PUT", path, {"verdict": "up"}, key=other).status == 404
    assert call(server, "GET", "/api/feedback", key=other).json["items"] == []
