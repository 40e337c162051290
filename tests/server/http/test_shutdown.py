"""Shutdown of a server process by signals."""

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

from tests.server.raw_http import request

SERVER = """
import sys, threading
from pathlib import Path
from empu.server.app import ServerApp
from empu.server.http.api_keys import ApiKeys
from empu.server.http.hosts import allowed_hosts
from empu.serving.registry import ModelRegistry
from empu.server.http.app_state import AppState
from empu.serving.encoders import EncoderService
from empu.server.http.logs import configure_logging
from empu.server.http.process import Server, bind_socket
from tests.server.running_server import open_tiny

def open_blocked(name):
    model = open_tiny(name)
    model.backend.forward = lambda batch: threading.Event().wait()
    return model

def list_encoders():
    print("embedding", flush=True)
    threading.Event().wait()

home = Path(sys.argv[1])
keys = ApiKeys(home)
key = keys.add("test")
bound = bind_socket("127.0.0.1", 0)
port = bound.getsockname()[1]
registry = ModelRegistry(lambda: {"tiny": 1}, open_blocked)
state = AppState(registry, keys, allowed_hosts("127.0.0.1", port), encoders=EncoderService(list_encoders))
configure_logging()
Server(ServerApp(state), lambda: print(port, key, flush=True)).run(sockets=[bound])
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    server_process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    yield server_process
    server_process.kill()
    server_process.communicate()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(
    process: subprocess.Popen[str], signal_number: signal.Signals, path: str
) -> None:
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
        process.send_signal(signal_number)
        assert any("a second signal" in line for line in iter(process.stderr.readline, ""))
        assert process.poll() is None
        process.send_signal(signal_number)
        process.wait(20)  # requests in progress would have 30 s
