"""Concurrent requests: complete streams, a bounded queue, cancelled requests, graceful shutdown, metrics and log."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from empu.engine.language_model import LanguageModel
from empu.engine.scheduler import SchedulerConfig
from empu.errors import EmpuError
from tests.server.raw_http import request
from tests.server.running_server import RunningServer, open_tiny, start_server

NAMES = {"tiny": 1}
CHAT = "/v1/chat/completions"


def config(max_running: int, max_waiting: int) -> SchedulerConfig:
    return SchedulerConfig(max_running=max_running, max_waiting=max_waiting, max_cached_prefixes=0)


def chat_body(**fields: Any) -> bytes:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200, **fields}
    return json.dumps(body).encode()


class GatedModel:
    """Opens a tiny model that waits while the gate is shut, and takes ``step_s`` longer for each step."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.gate = threading.Event()
        self._step_s = step_s

    def __call__(self, name: str) -> LanguageModel:
        model = open_tiny(name)
        forward = model.backend.forward

        def gated(batch: Any) -> Any:
            assert self.gate.wait(20)
            time.sleep(self._step_s)
            return forward(batch)

        model.backend.forward = gated  # type: ignore[method-assign]
        return model


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition never became true"
        time.sleep(0.02)


def num_requests(server: RunningServer) -> int:
    return sum(sum(engine.scheduler.load) for engine in server.state.registry.engines)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def send_chat(server: RunningServer, **fields: Any) -> socket.socket:
    """Send a request without waiting for its answer."""
    data = chat_body(**fields)
    connection = socket.create_connection(("127.0.0.1", server.port), 20)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.key}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def test_concurrent_streams_are_complete_and_equal_single_ones(server: RunningServer) -> None:
    async def all_at_once(count: int) -> list[str]:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)

        async def ask(i: int) -> str:
            message: Any = [{"role": "user", "content": f"Question {i}"}]
            stream = await client.chat.completions.create(
                model="tiny", messages=message, max_tokens=30, seed=i, stream=True
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].choices[0].finish_reason in {"length", "stop"}
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        async with client:
            return await asyncio.gather(*(ask(i) for i in range(count)))

    together = asyncio.run(all_at_once(20))
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0) as client:
        for i, text in enumerate(together):
            message: Any = [{"role": "user", "content": f"Question {i}"}]
            alone = client.chat.completions.create(model="tiny", messages=message, max_tokens=30, seed=i)
            assert alone.choices[0].message.content == text


def test_a_full_queue_answers_with_retry_after(tmp_path: Path) -> None:
    gated = GatedModel()
    server = start_server(tmp_path, open_model=gated, names=NAMES, scheduler_config=config(2, 1))
    connections = [send_chat(server) for _ in range(3)]
    wait_for(lambda: num_requests(server) == 3)
    reply = request(server.port, "POST", CHAT, key=server.key, body=chat_body())
    assert (reply.status, reply.json["error"]["code"]) == (429, "queue_full")
    assert int(reply.headers["retry-after"]) >= 1
    reply = request(server.port, "POST", "/v1/messages", key=server.key, body=chat_body())
    assert (reply.status, reply.json["error"]["type"]) == (529, "overloaded_error")
    assert int(reply.headers["retry-after"]) >= 1
    assert request(server.port, "GET", "/health").status == 200
    gated.gate.set()
    for connection in connections:
        connection.close()
    wait_for(lambda: num_requests(server) == 0)
    assert request(server.port, "POST", CHAT, key=server.key, body=chat_body(max_tokens=3)).status == 200
    server.stop()


def test_fifty_requests_above_the_queue_all_get_retry_after(tmp_path: Path) -> None:
    gated = GatedModel()
    server = start_server(tmp_path, open_model=gated, names=NAMES, scheduler_config=config(2, 1))
    connections = [send_chat(server) for _ in range(3)]
    wait_for(lambda: num_requests(server) == 3)
    with ThreadPoolExecutor(50) as pool:
        paths = [CHAT, "/v1/messages"] * 25
        replies = list(
            pool.map(lambda path: request(server.port, "POST", path, key=server.key, body=chat_body()), paths)
        )
    assert [reply.status for reply in replies] == [429, 529] * 25
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies)
    assert num_requests(server) == 3
    gated.gate.set()
    for connection in connections:
        connection.close()
    server.stop()


def test_random_disconnects_leak_nothing(tmp_path: Path) -> None:
    gated = GatedModel()
    gated.gate.set()
    server = start_server(tmp_path, open_model=gated, names=NAMES, scheduler_config=config(4, 300))
    assert request(server.port, "POST", CHAT, key=server.key, body=chat_body(max_tokens=1)).status == 200
    wait_for(lambda: not server.uvicorn_server.server_state.connections)
    files = open_files()
    rng = random.Random(7)

    def send_and_disconnect(stream: bool) -> None:
        connection = send_chat(server, stream=stream, max_tokens=20)
        if rng.random() < 0.2:
            incomplete = socket.create_connection(("127.0.0.1", server.port), 20)
            incomplete.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-".encode())
            incomplete.close()
        time.sleep(rng.random() * 0.05)
        if rng.random() < 0.3:  # close with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(send_and_disconnect, [True, False] * 100))
    wait_for(lambda: num_requests(server) == 0)
    wait_for(
        lambda: not server.uvicorn_server.server_state.connections and not server.uvicorn_server.server_state.tasks
    )
    assert server.state.metrics.active_requests == 0
    wait_for(lambda: open_files() <= files)
    server.stop()


def test_more_choices_than_slots_and_queue_are_refused_without_retry(tmp_path: Path) -> None:
    server = start_server(tmp_path, names=NAMES, scheduler_config=config(2, 1))
    reply = request(server.port, "POST", CHAT, key=server.key, body=chat_body(n=4))
    assert (reply.status, reply.json["error"]["param"], "retry-after" in reply.headers) == (400, "n", False)
    assert request(server.port, "POST", CHAT, key=server.key, body=chat_body(n=3, max_tokens=2)).status == 200
    server.stop()


def test_all_choices_of_a_request_are_queued_or_none(tmp_path: Path) -> None:
    gated = GatedModel()
    server = start_server(tmp_path, open_model=gated, names=NAMES, scheduler_config=config(2, 1))
    connections = [send_chat(server) for _ in range(2)]
    wait_for(lambda: num_requests(server) == 2)
    assert request(server.port, "POST", CHAT, key=server.key, body=chat_body(n=3)).status == 429
    gated.gate.set()
    for connection in connections:
        connection.close()
    wait_for(lambda: num_requests(server) == 0)
    server.stop()


def test_health_reports_a_failed_engine_and_the_next_request_opens_the_model_anew(tmp_path: Path) -> None:
    gated = GatedModel()
    server = start_server(tmp_path, open_model=gated, names=NAMES, scheduler_config=config(1, 8))
    connections = [send_chat(server) for _ in range(3)]
    wait_for(lambda: num_requests(server) == 3)
    scheduler = server.state.registry.engines[0].scheduler
    scheduler._plan_step = lambda: 1 / 0  # type: ignore[assignment,return-value]
    gated.gate.set()
    for connection in connections:
        assert b" 503 " in connection.recv(65536)
        connection.close()
    assert request(server.port, "GET", "/health").status == 503
    assert request(server.port, "GET", "/health").status == 200
    assert request(server.port, "POST", CHAT, key=server.key, body=chat_body()).status == 200
    assert server.state.registry.engines[0].scheduler is not scheduler
    # Without a health check between, the next request alone is enough.
    server.state.registry.engines[0].scheduler.failure = EmpuError("failed")
    assert request(server.port, "POST", CHAT, key=server.key, body=chat_body()).status == 200
    server.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnect_cancels_the_completions(tmp_path: Path, stream: bool) -> None:
    gated = GatedModel(step_s=0.05)  # 200 steps would take 10 s
    server = start_server(tmp_path, open_model=gated, names=NAMES, scheduler_config=config(2, 8))
    connections = [send_chat(server, stream=stream, n=2) for _ in range(3)]
    wait_for(lambda: num_requests(server) == 6)
    counts = server.state.registry.engines[0].scheduler.counters
    for connection in connections:
        connection.close()
    gated.gate.set()
    wait_for(lambda: counts.cancelled == 6)
    assert (num_requests(server), counts.length) == (0, 0)
    assert request(server.port, "POST", CHAT, key=server.key, body=chat_body(max_tokens=3)).status == 200
    server.stop()


def test_shutdown_waits_for_requests_in_progress(tmp_path: Path) -> None:
    gated = GatedModel()
    server = start_server(tmp_path, open_model=gated, names=NAMES)
    connection = send_chat(server, stream=True, max_tokens=5, seed=1)
    wait_for(lambda: num_requests(server) == 1)
    server.uvicorn_server.should_exit = True
    time.sleep(0.3)
    gated.gate.set()
    received = b""
    while part := connection.recv(65536):
        received += part
    connection.close()
    assert b"data: [DONE]" in received
    server.stop()


def test_metrics_and_log_contain_counts_but_no_text(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    secret = "the-secret-word"
    with caplog.at_level("INFO", logger="empu.server"):
        body = chat_body(messages=[{"role": "user", "content": secret}], max_tokens=4)
        assert request(server.port, "POST", CHAT, key=server.key, body=body).status == 200
        assert request(server.port, "POST", f"/v1/{secret}", key=server.key, body=body).status == 404
        wait_for(lambda: sum(record.name == "empu.server.requests" for record in caplog.records) >= 2)
    first = json.loads(next(record.message for record in caplog.records if record.name == "empu.server.requests"))
    lines = len(caplog.records)
    with caplog.at_level("INFO", logger="empu.server"):
        body = chat_body(messages=[{"role": "user", "content": secret}], max_tokens=4, n=3)
        assert request(server.port, "POST", CHAT, key=server.key, body=body).status == 200
        wait_for(lambda: len(caplog.records) > lines)
    shared = json.loads(caplog.records[-1].message)
    assert (shared["prompt_tokens"], shared["completion_tokens"]) == (first["prompt_tokens"], 12)
    assert (first["key"], first["completion_tokens"], first["status"]) == ("test", 4, 200)
    assert secret not in caplog.text
    assert server.key not in caplog.text
    text = request(server.port, "GET", "/metrics", key=server.key).body.decode()
    assert f'empu_http_requests_total{{route="{CHAT}",status="200"}}' in text
    assert 'empu_completion_tokens_total{model="tiny"}' in text
    assert "empu_first_token_seconds_bucket" in text
    body = chat_body(model="labels", messages=[{"role": "user", "content": "a"}])
    assert request(server.port, "POST", CHAT, key=server.key, body=body).status == 200
    text = request(server.port, "GET", "/metrics", key=server.key).body.decode()
    assert 'empu_answers_total{model="labels",reason="stop"} ' in text
    assert secret not in text


@pytest.mark.parametrize(("path", "ping"), [(CHAT, b": ping\n\n"), ("/v1/messages", b"event: ping\n")])
def test_a_silent_stream_is_kept_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, ping: bytes) -> None:
    monkeypatch.setattr("empu.server.http.sse.KEEPALIVE_S", 0.05)
    gated = GatedModel()
    server = start_server(tmp_path, open_model=gated, names=NAMES)
    data = chat_body(stream=True, max_tokens=3)
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nx-api-key: {server.key}\r\n"
        connection.sendall(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        received = b""
        while received.count(ping) < 3:
            received += connection.recv(65536)
        gated.gate.set()
        while part := connection.recv(65536):
            received += part
    assert b"[DONE]" in received or b"message_stop" in received
    server.stop()
