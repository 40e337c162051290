"""What people think of answers is kept, counted, and comes out as rows."""

from __future__ import annotations

import json
from pathlib import Path

from tests.server.serving import Running
from tests.server.test_conversations import ask, begin, call


def test_judgements_come_out_as_rows(running: Running) -> None:
    talk = begin(running)
    first = ask(running, talk, "hello")["answer"]
    assert first["content"]
    path = f"/api/messages/{first['id']}/feedback"
    assert call(running, "PUT", path, {"verdict": "up"}).json["verdict"] == "up"
    judged = call(running, "PUT", path, {"verdict": "down", "correction": "Good day."}).json
    assert (judged["verdict"], judged["correction"]) == ("down", "Good day.")
    overview = call(running, "GET", "/api/feedback").json
    assert (overview["up"], overview["down"], overview["corrections"]) == (0, 1, 1)
    assert overview["rows"] == {"labels": 0, "messages": 1, "preferences": 1}
    assert overview["items"][0]["question"] == "hello"
    reply = call(running, "GET", "/api/feedback/rows/messages")
    row = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Good day."}]}
    assert [json.loads(line) for line in reply.body.decode().splitlines()] == [row]
    assert "attachment" in reply.headers["content-disposition"]
    saved = call(running, "POST", "/api/feedback/save", {"kind": "messages"}).json
    assert saved["rows"] == 1
    assert Path(saved["path"]).read_bytes() == reply.body
    assert saved["path"] in saved["command"]
    assert call(running, "PUT", path, {}).json["correction"] is None
    assert call(running, "POST", "/api/feedback/save", {"kind": "messages"}).status == 400


def test_what_is_no_judgement_is_refused(running: Running) -> None:
    talk = begin(running)
    turn = ask(running, talk, "hello")
    path = f"/api/messages/{turn['answer']['id']}/feedback"
    for body in ({"verdict": "sideways"}, {"correction": ""}, {"correction": " \n"}, {"more": 1}):
        assert call(running, "PUT", path, body).status == 400
    assert call(running, "PUT", f"/api/messages/{turn['question']['id']}/feedback", {"verdict": "up"}).status == 404
    assert call(running, "PUT", "/api/messages/99999/feedback", {"verdict": "up"}).status == 404
    assert call(running, "PUT", f"/api/messages/{2**80}/feedback", {"verdict": "up"}).status in {400, 404}
    assert call(running, "GET", "/api/feedback/rows/other").status == 404
    assert call(running, "POST", "/api/feedback/save", {"kind": "other"}).status == 400
    other = running.context.keys.add(f"reader-{talk}")
    assert call(running, "PUT", path, {"verdict": "up"}, key=other).status == 404
    assert call(running, "GET", "/api/feedback", key=other).json["items"] == []
