"""`/v1/models` says when each model was added and how much it reads."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.server.raw_http import request
from tests.server.running_server import open_tiny, start_server


def test_models_have_a_time_and_once_opened_a_context_length(tmp_path: Path) -> None:
    server = start_server(tmp_path, open_model=open_tiny, names={"tiny": 1_700_000_000, "path": 0})
    before = {model["id"]: model for model in request(server.port, "GET", "/v1/models", key=server.key).json["data"]}
    assert before["tiny"]["created"] == 1_700_000_000
    assert abs(before["path"]["created"] - time.time()) < 600
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    assert (
        request(server.port, "POST", "/v1/chat/completions", key=server.key, body=json.dumps(body).encode()).status
        == 200
    )
    after = request(server.port, "GET", "/v1/models/tiny", key=server.key).json
    assert after["context_length"] == server.state.registry.engines[0].model.context_length
    only_system = {**body, "messages": [{"role": "system", "content": "Be brief."}]}
    reply = request(server.port, "POST", "/v1/messages", key=server.key, body=json.dumps(only_system).encode())
    assert (reply.status, "message of the user" in reply.json["error"]["message"]) == (400, True)
    server.stop()
