"""``empu serve`` as a process: it says where it is, answers with its key, and ends on SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.server.raw_http import request

QUESTION = "What is the capital of Indonesia?"


def begin(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "empu", "serve", "--port", "0", "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EMPU_HOME": str(home)},
    )


def document(process: subprocess.Popen[str]) -> dict[str, object]:
    """What it prints at its start."""
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        text += line
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def end(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode in {0, -signal.SIGTERM}, said
    return said


def test_the_default_model_answers_over_http(default_gguf: Path, tmp_path: Path) -> None:
    process = begin(tmp_path / "home", str(default_gguf))
    try:
        first = document(process)
        assert isinstance(first["models"], list)
        name = str(first["models"][0])
        port, key = int(str(first["address"]).rpartition(":")[2]), str(first["key"])
        body = {
            "model": name,
            "messages": [{"role": "user", "content": "What is the capital of Indonesia?"}],
            "temperature": 0,
            "max_tokens": 12,
        }
        reply = request(port, "POST", "/v1/chat/completions", key=key, body=json.dumps(body).encode())
        assert reply.status == 200, reply
        assert "Jakarta" in reply.json["choices"][0]["message"]["content"]
    finally:
        said = end(process)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert lines[-1]["route"] == "/v1/chat/completions"
    assert lines[-1]["completion_tokens"] == reply.json["usage"]["completion_tokens"]
    assert "Indonesia" not in said
    assert key not in said


def test_the_key_is_shown_once_and_kept(tiny: Path, tmp_path: Path) -> None:
    first = begin(tmp_path / "home", str(tiny))
    shown = document(first)
    end(first)
    again = begin(tmp_path / "home", str(tiny))
    try:
        later = document(again)
        assert str(shown["key"]).startswith("empu-")
        assert later["key"] is None
        assert later["sign_in"] != shown["sign_in"]
        port = int(str(later["address"]).rpartition(":")[2])
        listed = request(port, "GET", "/v1/models", key=str(shown["key"])).json["data"]
        assert "tiny" in [model["id"] for model in listed]
        assert request(port, "GET", "/v1/models").status == 401
    finally:
        end(again)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--host", "0.0.0.0"], "no key yet"),
        (["nowhere.gguf"], "nowhere.gguf"),
        (["--port", "99999"], "--port"),
        ([], "empty"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(empu: Run, words: list[str], reason: str) -> None:
    outcome = empu("serve", *words)
    assert outcome.code != 0
    assert reason in outcome.err


def test_without_a_terminal_one_question_is_answered_and_the_server_ends(default_gguf: Path, tmp_path: Path) -> None:
    def serve(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "empu", "serve", str(default_gguf), "--port", "0", *words]
        environment = {**os.environ, "EMPU_HOME": str(tmp_path / "home")}
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )

    first = serve("--unattended", QUESTION)
    assert first.returncode == 0, first.stderr
    assert QUESTION in first.stderr
    log = next(json.loads(line) for line in first.stderr.splitlines() if line.startswith("{"))
    assert (log["route"], log["status"], log["key"]) == ("/v1/chat/completions", 200, "unattended")
    assert "Jakarta" in first.stdout
    told = serve("--unattended", QUESTION, "--json")
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert answer["answer"] + "\n" == first.stdout
    assert answer["usage"]["completion_tokens"] >= 1
    failed = serve("--unattended", "x" * 100_000, "--json")
    assert failed.returncode == 1
    assert "400" in json.loads(failed.stdout)["error"]["message"]
