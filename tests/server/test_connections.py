"""Clients that connect and send nothing, or less than they announced."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from empu.server.http import middleware, protocol
from tests.server.raw import Reply, parsed, request
from tests.server.serving import Running, start


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    for module in (protocol, middleware):
        monkeypatch.setattr(module, "HEAD_S", 0.5)
        monkeypatch.setattr(module, "BODY_S", 0.6)
    return start(tmp_path)


def connect(server: Running, data: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port), 20)
    made.sendall(data.replace(b"HOST", f"127.0.0.1:{server.port}".encode()))
    return made


def received(open_connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    while part := open_connection.recv(65536):
        data += part
    open_connection.close()
    return data


def reply(open_connection: socket.socket) -> Reply:
    return parsed(received(open_connection))


HALF = b"POST %s HTTP/1.1\r\nHost: HOST\r\n%sContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


def test_events_do_not_wait_for_each_other(running: Running) -> None:
    kept = connect(running)
    while not running.server.server_state.connections:
        time.sleep(0.01)
    for one in running.server.server_state.connections:
        accepted = one.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    kept.close()


def test_who_sends_no_complete_headers_is_not_waited_for(impatient: Running) -> None:
    silent, half = connect(impatient), connect(impatient, b"GET /hea")
    assert received(silent) == b""
    late = reply(half)
    assert (late.status, late.json["error"]["code"]) == (408, "timeout")
    again = connect(impatient, b"GET /health HTTP/1.1\r\nHost: HOST\r\n\r\nGET /hea")
    assert received(again).count(b"HTTP/1.1 ") == 2
    impatient.stop()


def test_a_request_after_another_on_its_connection_has_time_again(impatient: Running) -> None:
    kept = connect(impatient)
    whole = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{impatient.port}\r\n\r\n".encode()
    for _ in range(4):
        kept.sendall(whole)
        answer = b""
        while not answer.endswith(b"}"):
            answer += kept.recv(65536)
        assert b" 200 OK" in answer
        time.sleep(0.3)
    kept.close()
    impatient.stop()


def test_a_body_that_does_not_come_is_refused(impatient: Running) -> None:
    late = reply(connect(impatient, HALF % (b"/api/signin", b"")))
    assert (late.status, late.json["error"]["code"]) == (408, "timeout")
    key = f"x-api-key: {impatient.key}\r\n".encode()
    late = reply(connect(impatient, HALF % (b"/v1/messages", key)))
    assert (late.status, late.json["type"]) == (408, "error")
    refused = reply(connect(impatient, HALF % (b"/v1/messages", b"")))
    assert refused.status == 401
    impatient.stop()


def test_a_body_that_does_not_come_does_not_hold_the_end(tmp_path: Path) -> None:
    server = start(tmp_path)
    half = connect(server, HALF % (b"/v1/responses", f"x-api-key: {server.key}\r\n".encode()))
    while not server.context.metrics.running:
        time.sleep(0.01)
    server.stop()
    assert reply(half).json["error"]["code"] == "stopping"


def test_connections_that_ask_for_nothing_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 10)
    server = start(tmp_path)
    idle = [connect(server) for _ in range(30)]
    assert request(server.port, "GET", "/health").status == 200
    assert received(idle[0]) == b""
    server.stop()
    for one in idle:
        one.close()


def test_more_requests_than_can_be_answered_are_told_to_come_back(running: Running) -> None:
    running.context.metrics.running += protocol.MAX_CONNECTIONS
    refused = request(running.port, "GET", "/v1/models", key=running.key)
    busy = request(running.port, "POST", "/v1/messages", key=running.key, body=b"{}")
    running.context.metrics.running -= protocol.MAX_CONNECTIONS
    assert (refused.status, busy.status) == (429, 529)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json["error"]["code"] == "too_many_requests"
