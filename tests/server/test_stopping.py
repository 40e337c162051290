"""The second signal, in a process of its own: nothing that runs is waited for."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.raw import request

SERVER = """
import sys, threading
from pathlib import Path
from empu.server.app import make_app
from empu.server.http.auth import Keys, allowed_hosts
from empu.serving.registry import Catalogue
from empu.server.http.app_state import Context
from empu.serving.encoders import Encoders
from empu.server.http.process import Server, listen, write_log
from tests.server.serving import tiny

def slow(name):
    model = tiny(name)
    model.backend.forward = lambda batch: threading.Event().wait()
    return model

def find():
    print("embedding", flush=True)
    threading.Event().wait()

home = Path(sys.argv[1])
keys = Keys(home)
key = keys.add("test")
listening = listen("127.0.0.1", 0)
port = listening.getsockname()[1]
catalogue = Catalogue(lambda: {"tiny": 1}, slow)
context = Context(catalogue, keys, allowed_hosts("127.0.0.1", port), encoders=Encoders(find))
write_log()
Server(make_app(context), lambda: print(port, key, flush=True)).run(sockets=[listening])
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    made = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    yield made
    made.kill()
    made.communicate()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(process: subprocess.Popen[str], sent: signal.Signals, path: str) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    port, key = process.stdout.readline().split()
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    body = json.dumps(chat if "chat" in path else {"model": "ours", "input": "x"}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nx-api-key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(port)), 20) as connection:
        connection.sendall(head.encode() + body)
        if "chat" in path:
            assert b" 200 OK" in connection.recv(4096)
        else:
            assert process.stdout.readline() == "embedding\n"
        assert request(int(port), "GET", "/health").status == 200
        process.send_signal(sent)
        assert any("a second signal" in line for line in iter(process.stderr.readline, ""))
        assert process.poll() is None
        process.send_signal(sent)
        process.wait(20)  # what is in progress would have 30 s
