"""A model hub on loopback that implements as much of the real protocol as a pull needs, and fails on request.

Large files are answered with a redirect to another host name, as the real hub redirects to a content network. Small
files are answered directly. Both support ranges. The hub records all requests.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".gguf")


@dataclass
class Request:
    """One request."""

    method: str
    path: str
    host: str
    authorization: str | None
    range: str | None
    agent: str


@dataclass
class FakeHub:
    """One repository, and the faults to simulate."""

    repository: str = "org/tiny"
    files: dict[str, bytes] = field(default_factory=dict)
    card: dict[str, object] = field(default_factory=dict)
    commit: str = COMMIT
    cut_after: int | None = None
    """Close the connection after this many bytes of a large file."""
    cuts_left: int = 0
    """Number of responses to cut."""
    dead_after_cuts: bool = False
    """After the last cut, requests for large files get no response while ``cut_after`` is set."""
    corrupt: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    """Files that are listed but do not exist."""
    ignore_ranges: bool = False
    page: bytes | None = None
    """Sent with status 200 instead of every file."""
    refuse: tuple[int, str, str] | None = None
    """(status, X-Error-Code, X-Error-Message) for every request."""
    refuse_files: tuple[int, str, str] | None = None
    is_captive_portal: bool = False
    """Answer the query for the repository with a web page instead of JSON."""
    requests: list[Request] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    """File -> number of bytes sent."""
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def info(self) -> dict[str, object]:
        siblings = []
        for name, data in self.files.items():
            row: dict[str, object] = {
                "rfilename": name,
                "size": len(data),
                "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest(),
            }
            if name.endswith(LARGE):
                row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(row)
        return {
            "_id": "1",
            "id": self.repository,
            "modelId": self.repository,
            "sha": self.commit,
            "private": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
            "cardData": self.card,
        }


@contextmanager
def serve_hub(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve ``hub`` on a free port of loopback."""

    class Handler(_Handler):
        fake = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        get = self.headers.get
        self.fake.requests.append(
            Request(self.command, path, get("Host", ""), get("Authorization"), get("Range"), get("User-Agent", ""))
        )
        repository = re.escape(self.fake.repository)
        if self.fake.refuse is not None:
            self._refuse(*self.fake.refuse)
        elif match := re.fullmatch(rf"/api/models/{repository}(?:/revision/(.+))?", path):
            if match[1] not in (None, "main", "v1", self.fake.commit):
                self._refuse(404, "RevisionNotFound", f"Invalid rev id: {match[1]}")
            elif self.fake.is_captive_portal:
                self._send(200, b"<html>Please log in to the airport's network</html>", {}, with_body)
            else:
                self._send(200, json.dumps(self.fake.info()).encode(), {"Content-Type": "application/json"}, with_body)
        elif match := re.fullmatch(rf"/{repository}/resolve/{self.fake.commit}/(.+)", path):
            self._file(match[1], with_body)
        elif match := re.fullmatch(r"/content/(.+)", path):
            self._bytes(match[1], with_body)
        else:
            self._refuse(404, "RepoNotFound", "Repository not found")

    def _file(self, name: str, with_body: bool) -> None:
        if self.fake.refuse_files is not None:
            self._refuse(*self.fake.refuse_files)
        elif name not in self.fake.files or name in self.fake.missing:
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif name.endswith(LARGE):
            data = self.fake.files[name]
            headers = {
                "Location": f"http://localhost:{self.fake.port}/content/{name}",
                "X-Repo-Commit": self.fake.commit,
                "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
            }
            self._send(302, b"", headers, with_body)
        else:
            self._bytes(name, with_body)

    def _bytes(self, name: str, with_body: bool) -> None:
        data = self.fake.files[name]
        if self.fake.page is not None:
            self._send(200, self.fake.page, {}, with_body)
            return
        if name in self.fake.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        start, status, headers = 0, 200, {"X-Repo-Commit": self.fake.commit, "ETag": f'"{len(data)}"'}
        requested = self.headers.get("Range")
        if requested and not self.fake.ignore_ranges:
            start = int(requested.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                self._refuse(416, "", "Requested Range Not Satisfiable")
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        limit = self.fake.cut_after
        if limit is not None and self.fake.dead_after_cuts and self.fake.cuts_left == 0 and name.endswith(LARGE):
            self.close_connection = True
            return
        if limit is not None and self.fake.cuts_left > 0 and name.endswith(LARGE) and limit < len(body):
            self.fake.cuts_left -= 1
            self.close_connection = True
            self._send(status, body[:limit], headers, with_body, length=len(body))
            self.fake.sent[name] = self.fake.sent.get(name, 0) + limit
            return
        self._send(status, body, headers, with_body)
        self.fake.sent[name] = self.fake.sent.get(name, 0) + len(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message}, self.command != "HEAD")

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], with_body: bool, *, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if with_body:
            self.wfile.write(body)
