"""Requests written byte by byte, as no client would send them."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, data: bytes, *, timeout_s: float = 20) -> Reply:
    """Send bytes and read one reply to its end."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        connection.sendall(data)
        received = b""
        while part := connection.recv(65536):
            received += part
    return parsed(received)


def parsed(received: bytes) -> Reply:
    """The first reply of what came."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", len(body)))
    return Reply(int(first.split()[1]), headers, body[:length])


def request(
    port: int,
    method: str,
    path: str,
    *,
    key: str | None = None,
    body: bytes | None = None,
    host: str | None = None,
    **more: str,
) -> Reply:
    """One request on a connection of its own. ``more`` are headers; an underscore stands for a hyphen."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Connection: close"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
        if "Content_Type" not in more:
            lines.append("Content-Type: application/json")
    return send(port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
