"""Many at once: whole streams, a bounded queue, slots that come back, an end that waits for what is in progress."""

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
from empu.engine.scheduler import Limits
from tests.server.raw import request
from tests.server.serving import Running, start, tiny

NAMES = {"tiny": 1}
CHAT = "/v1/chat/completions"


def body(**more: Any) -> bytes:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200, **more}
    return json.dumps(asked).encode()


class Gate:
    """A tiny model that computes nothing while the gate is shut, and takes ``step_s`` longer for each step."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.open = threading.Event()
        self._step_s = step_s

    def __call__(self, name: str) -> LanguageModel:
        model = tiny(name)
        forward = model.backend.forward

        def gated(batch: Any) -> Any:
            assert self.open.wait(20)
            time.sleep(self._step_s)
            return forward(batch)

        model.backend.forward = gated  # type: ignore[method-assign]
        return model


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def load(server: Running) -> int:
    return sum(sum(engine.scheduler.load) for engine in server.context.catalogue.engines)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def hold(server: Running, **more: Any) -> socket.socket:
    """A request whose answer is not awaited."""
    data = body(**more)
    connection = socket.create_connection(("127.0.0.1", server.port), 20)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.key}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def test_streams_side_by_side_are_whole_and_equal_those_alone(running: Running) -> None:
    async def all_at_once(count: int) -> list[str]:
        client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0)

        async def one(i: int) -> str:
            message: Any = [{"role": "user", "content": f"Question {i}"}]
            stream = await client.chat.completions.create(
                model="tiny", messages=message, max_tokens=30, seed=i, stream=True
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].choices[0].finish_reason in {"length", "stop"}
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        async with client:
            return await asyncio.gather(*(one(i) for i in range(count)))

    together = asyncio.run(all_at_once(20))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0) as client:
        for i, text in enumerate(together):
            message: Any = [{"role": "user", "content": f"Question {i}"}]
            alone = client.chat.completions.create(model="tiny", messages=message, max_tokens=30, seed=i)
            assert alone.choices[0].message.content == text


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    gate = Gate()
    server = start(tmp_path, opener=gate, names=NAMES, limits=Limits(slots=2, queue=1, prefixes=0))
    held = [hold(server) for _ in range(3)]
    wait_for(lambda: load(server) == 3)
    reply = request(server.port, "POST", CHAT, key=server.key, body=body())
    assert (reply.status, reply.json["error"]["code"]) == (429, "queue_full")
    assert int(reply.headers["retry-after"]) >= 1
    reply = request(server.port, "POST", "/v1/messages", key=server.key, body=body())
    assert (reply.status, reply.json["error"]["type"]) == (529, "overloaded_error")
    assert int(reply.headers["retry-after"]) >= 1
    assert request(server.port, "GET", "/health").status == 200
    gate.open.set()
    for connection in held:
        connection.close()
    wait_for(lambda: load(server) == 0)
    assert request(server.port, "POST", CHAT, key=server.key, body=body(max_tokens=3)).status == 200
    server.stop()


def test_each_of_fifty_too_many_is_told_to_come_back(tmp_path: Path) -> None:
    gate = Gate()
    server = start(tmp_path, opener=gate, names=NAMES, limits=Limits(slots=2, queue=1, prefixes=0))
    held = [hold(server) for _ in range(3)]
    wait_for(lambda: load(server) == 3)
    with ThreadPoolExecutor(50) as crowd:
        paths = [CHAT, "/v1/messages"] * 25
        replies = list(crowd.map(lambda path: request(server.port, "POST", path, key=server.key, body=body()), paths))
    assert [reply.status for reply in replies] == [429, 529] * 25
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies)
    assert load(server) == 3
    gate.open.set()
    for connection in held:
        connection.close()
    server.stop()


def test_clients_that_leave_at_random_moments_leave_nothing_behind(tmp_path: Path) -> None:
    gate = Gate()
    gate.open.set()
    server = start(tmp_path, opener=gate, names=NAMES, limits=Limits(slots=4, queue=300, prefixes=0))
    assert request(server.port, "POST", CHAT, key=server.key, body=body(max_tokens=1)).status == 200
    wait_for(lambda: not server.server.server_state.connections)
    files = open_files()
    dice = random.Random(7)

    def leave(stream: bool) -> None:
        whole = hold(server, stream=stream, max_tokens=20)
        if dice.random() < 0.2:
            half = socket.create_connection(("127.0.0.1", server.port), 20)
            half.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-".encode())
            half.close()
        time.sleep(dice.random() * 0.05)
        if dice.random() < 0.3:  # with a reset, not an end
            whole.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        whole.close()

    with ThreadPoolExecutor(20) as crowd:
        list(crowd.map(leave, [True, False] * 100))
    wait_for(lambda: load(server) == 0)
    wait_for(lambda: not server.server.server_state.connections and not server.server.server_state.tasks)
    assert server.context.metrics.running == 0
    wait_for(lambda: open_files() <= files)
    server.stop()


def test_more_answers_than_ever_fit_are_refused_for_good(tmp_path: Path) -> None:
    server = start(tmp_path, names=NAMES, limits=Limits(slots=2, queue=1, prefixes=0))
    reply = request(server.port, "POST", CHAT, key=server.key, body=body(n=4))
    assert (reply.status, reply.json["error"]["param"], "retry-after" in reply.headers) == (400, "n", False)
    assert request(server.port, "POST", CHAT, key=server.key, body=body(n=3, max_tokens=2)).status == 200
    server.stop()


def test_of_several_answers_all_are_queued_or_none(tmp_path: Path) -> None:
    gate = Gate()
    server = start(tmp_path, opener=gate, names=NAMES, limits=Limits(slots=2, queue=1, prefixes=0))
    held = [hold(server) for _ in range(2)]
    wait_for(lambda: load(server) == 2)
    assert request(server.port, "POST", CHAT, key=server.key, body=body(n=3)).status == 429
    gate.open.set()
    for connection in held:
        connection.close()
    wait_for(lambda: load(server) == 0)
    server.stop()


def test_an_engine_that_failed_is_said_by_health(tmp_path: Path) -> None:
    gate = Gate()
    server = start(tmp_path, opener=gate, names=NAMES, limits=Limits(slots=1, queue=8, prefixes=0))
    held = [hold(server) for _ in range(3)]
    wait_for(lambda: load(server) == 3)
    scheduler = server.context.catalogue.engines[0].scheduler
    scheduler._plan = lambda: 1 / 0  # type: ignore[assignment,return-value]
    gate.open.set()
    for connection in held:
        assert b" 503 " in connection.recv(65536)
        connection.close()
    reply = request(server.port, "POST", CHAT, key=server.key, body=body())
    assert (reply.status, "ZeroDivisionError" in reply.json["error"]["message"]) == (503, True)
    assert request(server.port, "GET", "/health").status == 503
    server.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(tmp_path: Path, stream: bool) -> None:
    gate = Gate(step_s=0.05)  # 200 steps would take 10 s
    server = start(tmp_path, opener=gate, names=NAMES, limits=Limits(slots=2, queue=8, prefixes=0))
    held = [hold(server, stream=stream, n=2) for _ in range(3)]
    wait_for(lambda: load(server) == 6)
    counts = server.context.catalogue.engines[0].scheduler.counts
    for connection in held:
        connection.close()
    gate.open.set()
    wait_for(lambda: counts.cancelled == 6)
    assert (load(server), counts.length) == (0, 0)
    assert request(server.port, "POST", CHAT, key=server.key, body=body(max_tokens=3)).status == 200
    server.stop()


def test_the_end_waits_for_what_is_in_progress(tmp_path: Path) -> None:
    gate = Gate()
    server = start(tmp_path, opener=gate, names=NAMES)
    connection = hold(server, stream=True, max_tokens=5, seed=1)
    wait_for(lambda: load(server) == 1)
    server.server.should_exit = True
    time.sleep(0.3)
    gate.open.set()
    received = b""
    while part := connection.recv(65536):
        received += part
    connection.close()
    assert b"data: [DONE]" in received
    server.stop()


def test_metrics_and_log_count_without_words(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    secret = "the-secret-word"
    with caplog.at_level("INFO", logger="empu.server"):
        asked = body(messages=[{"role": "user", "content": secret}], max_tokens=4)
        assert request(running.port, "POST", CHAT, key=running.key, body=asked).status == 200
        assert request(running.port, "POST", f"/v1/{secret}", key=running.key, body=asked).status == 404
        wait_for(lambda: sum(record.name == "empu.server.requests" for record in caplog.records) >= 2)
    first = json.loads(next(record.message for record in caplog.records if record.name == "empu.server.requests"))
    lines = len(caplog.records)
    with caplog.at_level("INFO", logger="empu.server"):
        several = body(messages=[{"role": "user", "content": secret}], max_tokens=4, n=3)
        assert request(running.port, "POST", CHAT, key=running.key, body=several).status == 200
        wait_for(lambda: len(caplog.records) > lines)
    shared = json.loads(caplog.records[-1].message)
    assert (shared["prompt_tokens"], shared["completion_tokens"]) == (first["prompt_tokens"], 12)
    assert (first["key"], first["completion_tokens"], first["status"]) == ("test", 4, 200)
    assert secret not in caplog.text
    assert running.key not in caplog.text
    text = request(running.port, "GET", "/metrics", key=running.key).body.decode()
    assert f'empu_http_requests_total{{route="{CHAT}",status="200"}}' in text
    assert 'empu_completion_tokens_total{model="tiny"}' in text
    assert "empu_first_token_seconds_bucket" in text
    judged = body(model="labels", messages=[{"role": "user", "content": "a"}])
    assert request(running.port, "POST", CHAT, key=running.key, body=judged).status == 200
    text = request(running.port, "GET", "/metrics", key=running.key).body.decode()
    assert 'empu_answers_total{model="labels",reason="stop"} ' in text
    assert secret not in text
