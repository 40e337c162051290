"""Clients that connect and send nothing, or less than they announced."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from empu.server.http import protocol
from empu.server.http.middleware import body_deadline
from tests.server.raw_http import Reply, parse_reply, request
from tests.server.running_server import RunningServer, start_server


@pytest.fixture
def impatient_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningServer:
    for module in (protocol, body_deadline):
        monkeypatch.setattr(module, "HEADERS_TIMEOUT_S", 0.5)
        monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.6)
    return start_server(tmp_path)


def connect(server: RunningServer, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), 20)
    connection.sendall(data.replace(b"HOST", f"127.0.0.1:{server.port}".encode()))
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    data = b""
    while part := connection.recv(65536):
        data += part
    connection.close()
    return data


def read_reply(connection: socket.socket) -> Reply:
    return parse_reply(read_all(connection))


INCOMPLETE_REQUEST = (
    b"POST %s HTTP/1.1\r\nHost: HOST\r\n%sContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)


def test_connections_turn_off_nagles_algorithm(server: RunningServer) -> None:
    connection = connect(server)
    while not server.uvicorn_server.server_state.connections:
        time.sleep(0.01)
    for protocol_instance in server.uvicorn_server.server_state.connections:
        accepted = protocol_instance.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


def test_incomplete_headers_time_out(impatient_server: RunningServer) -> None:
    silent, half = connect(impatient_server), connect(impatient_server, b"GET /hea")
    assert read_all(silent) == b""
    late = read_reply(half)
    assert (late.status, late.json["error"]["code"]) == (408, "timeout")
    second = connect(impatient_server, b"GET /health HTTP/1.1\r\nHost: HOST\r\n\r\nGET /hea")
    assert read_all(second).count(b"HTTP/1.1 ") == 2
    impatient_server.stop()


def test_each_request_on_a_connection_has_its_own_deadline(impatient_server: RunningServer) -> None:
    connection = connect(impatient_server)
    complete = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{impatient_server.port}\r\n\r\n".encode()
    for _ in range(4):
        connection.sendall(complete)
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        assert b" 200 OK" in answer
        time.sleep(0.3)
    connection.close()
    impatient_server.stop()


def test_an_incomplete_body_times_out(impatient_server: RunningServer) -> None:
    late = read_reply(connect(impatient_server, INCOMPLETE_REQUEST % (b"/api/signin", b"")))
    assert (late.status, late.json["error"]["code"]) == (408, "timeout")
    key = f"x-api-key: {impatient_server.key}\r\n".encode()
    late = read_reply(connect(impatient_server, INCOMPLETE_REQUEST % (b"/v1/messages", key)))
    assert (late.status, late.json["type"]) == (408, "error")
    refused = read_reply(connect(impatient_server, INCOMPLETE_REQUEST % (b"/v1/messages", b"")))
    assert refused.status == 401
    impatient_server.stop()


def test_an_incomplete_body_does_not_delay_shutdown(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    half = connect(server, INCOMPLETE_REQUEST % (b"/v1/responses", f"x-api-key: {server.key}\r\n".encode()))
    while not server.state.metrics.active_requests:
        time.sleep(0.01)
    server.stop()
    assert read_reply(half).json["error"]["code"] == "stopping"


def test_idle_connections_are_closed_above_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 10)
    server = start_server(tmp_path)
    idle = [connect(server) for _ in range(30)]
    assert request(server.port, "GET", "/health").status == 200
    assert read_all(idle[0]) == b""
    server.stop()
    for connection in idle:
        connection.close()


def test_requests_above_the_limit_get_retry_after(server: RunningServer) -> None:
    server.state.metrics.active_requests += protocol.MAX_CONNECTIONS
    refused = request(server.port, "GET", "/v1/models", key=server.key)
    busy = request(server.port, "POST", "/v1/messages", key=server.key, body=b"{}")
    server.state.metrics.active_requests -= protocol.MAX_CONNECTIONS
    assert (refused.status, busy.status) == (429, 529)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json["error"]["code"] == "too_many_requests"


def test_a_request_with_two_lengths_is_answered_and_its_connection_closed(server: RunningServer) -> None:
    head = b"POST /api/signin HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
    lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    hidden = b"GET /health HTTP/1.1\r\nHost: HOST\r\n\r\n"
    assert read_all(connect(server, head + lengths + hidden)).count(b"HTTP/1.1 ") == 1
