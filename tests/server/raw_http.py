"""Sends requests byte by byte, also such as no client library would send."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """Response of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, data: bytes, *, timeout_s: float = 20) -> Reply:
    """Send bytes and read the reply until the connection closes."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        connection.sendall(data)
        received = b""
        while part := connection.recv(65536):
            received += part
    return parse_reply(received)


def parse_reply(received: bytes) -> Reply:
    """Parse the first reply in the received bytes."""
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", len(body)))
    return Reply(int(status_line.split()[1]), headers, body[:length])


def request(
    port: int,
    method: str,
    path: str,
    *,
    key: str | None = None,
    body: bytes | None = None,
    host: str | None = None,
    **headers: str,
) -> Reply:
    """Send one request on its own connection. ``headers``: an underscore stands for a hyphen."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Connection: close"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
        if "Content_Type" not in headers:
            lines.append("Content-Type: application/json")
    return send(port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
