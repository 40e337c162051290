"""Who is let in: every address of the server, every way to carry a key, every Host and Origin."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from empu.errors import StoreError, UsageError
from empu.server.app import PUBLIC
from empu.server.http.auth import Keys, Sessions, allowed_hosts, check_bind, cookie_name, is_own_origin
from empu.server.http.middleware import Guard
from empu.server.ui import static_files
from tests.server.raw import request
from tests.server.serving import LISTED, Running, start

OTHERS = ["/nothing", "/v1/nothing", "/../etc/passwd", "//", "//v1/models", "/v1/models/", "/%61pi/me"]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def addresses(running: Running) -> set[str]:
    """Of every route that the server has, with something in the place of each parameter."""
    app = running.server.config.app
    assert isinstance(app, Guard)
    assert isinstance(app.app, Starlette)
    found = {re.sub(r"\{[^}]+\}", "tiny", getattr(route, "path", "")) for route in app.app.routes}
    assert {"/", "/assets", "/health", "/metrics", "/v1/messages", "/api/messages/tiny/feedback"} <= found
    return found - {"/assets"} | {"/assets/tiny.js"}


@pytest.mark.parametrize("method", METHODS)
def test_everything_but_health_and_pages_needs_a_key(running: Running, method: str) -> None:
    body = b"{}" if method in {"POST", "PUT", "PATCH"} else None
    for path in sorted({*addresses(running), *OTHERS}):
        is_open = path in PUBLIC or static_files.is_page(path)
        status = request(running.port, method, path, body=body).status
        assert status in {200, 400, 404, 405} if is_open else status == 401, path
        assert request(running.port, method, path, key="empu-wrong", body=body).status == status, path
        assert request(running.port, method, path, key=running.key, body=body).status != 401, path


def test_every_method_of_a_route_is_tried(running: Running) -> None:
    app = running.server.config.app
    assert isinstance(app, Guard)
    assert isinstance(app.app, Starlette)
    assert {method for route in app.app.routes for method in getattr(route, "methods", None) or ()} <= set(METHODS)


def test_a_key_is_taken_as_bearer_or_x_api_key(running: Running) -> None:
    assert request(running.port, "GET", "/v1/models").status == 401
    assert request(running.port, "GET", "/v1/models", x_api_key=running.key).status == 200
    assert request(running.port, "GET", "/v1/models", Authorization=f"bearer {running.key}").status == 200
    assert request(running.port, "GET", "/v1/models", Authorization=f"Basic {running.key}").status == 401
    assert request(running.port, "GET", f"/v1/models?key={running.key}").status == 401
    wrong = request(running.port, "GET", "/v1/models", key="empu-wrong", x_api_key=running.key)
    assert wrong.status == 401


def test_a_missing_key_and_an_unknown_one_are_told_apart(running: Running) -> None:
    without, wrong = (request(running.port, "GET", "/v1/models", key=key).body for key in (None, "empu-wrong"))
    assert b"A key is needed" in without
    assert b"unknown or was revoked" in wrong
    assert b"empu keys add" in wrong


def sign_in(running: Running, code: str) -> tuple[int, str]:
    reply = request(running.port, "POST", "/api/signin", body=json.dumps({"code": code}).encode())
    return reply.status, reply.headers.get("set-cookie", "")


def test_the_sign_in_link_works_once_and_gives_a_cookie(running: Running) -> None:
    code = running.context.sessions.link()
    status, cookie = sign_in(running, code)
    assert status == 200
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    value = cookie.partition(";")[0]
    assert request(running.port, "GET", "/api/me", Cookie=value).json["models"] == LISTED
    assert sign_in(running, code)[0] == 401
    assert sign_in(running, running.key)[0] == 200
    assert request(running.port, "POST", "/api/signout", body=b"", Cookie=value).status == 200
    assert request(running.port, "GET", "/api/me", Cookie=value).status == 401
    assert request(running.port, "GET", "/api/me", Cookie=f"{cookie_name(running.port)}=guess; a=\x01;;=").status == 401


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", "127.0.0.1:{port}.", ""]
)
def test_another_host_is_refused_even_with_a_key(running: Running, host: str) -> None:
    named = host.format(port=running.port) or " "
    for path in ("/v1/models", "/", "/health"):
        assert request(running.port, "GET", path, key=running.key, host=named).status in {400, 403}


def test_own_names_are_let_in(running: Running) -> None:
    for host in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]"):
        assert request(running.port, "GET", "/v1/models", key=running.key, host=f"{host}:{running.port}").status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:{port}.evil", "http://localhost:1"]
)
def test_a_foreign_origin_is_refused_even_with_a_key(running: Running, origin: str) -> None:
    named = origin.format(port=running.port)
    for method, path in (("POST", "/v1/chat/completions"), ("OPTIONS", "/v1/models"), ("POST", "/api/signin")):
        reply = request(running.port, method, path, key=running.key, body=b"{}", Origin=named)
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers


def test_the_own_origin_is_let_in(running: Running) -> None:
    origin = f"http://localhost:{running.port}"
    assert request(running.port, "GET", "/v1/models", key=running.key, Origin=origin).status == 200


def test_keys_are_kept_as_hashes_in_a_file_of_ones_own(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add("laptop")
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert key not in keys.path.read_text()
    again = Keys(tmp_path)
    assert again.owner(key) == "laptop"
    assert again.owner(key + "x") is None
    assert list(again.names()) == ["laptop"]
    with pytest.raises(UsageError, match="already"):
        again.add("laptop")
    again.revoke("laptop")
    assert Keys(tmp_path).owner(key) is None
    with pytest.raises(UsageError, match="no key"):
        again.revoke("laptop")
    keys.path.write_text("[1]")
    with pytest.raises(StoreError, match="cannot be read"):
        Keys(tmp_path)


def test_no_bind_off_loopback_without_a_key(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    for host in ("127.0.0.1", "localhost", "::1"):
        check_bind(host, keys)
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(UsageError, match="no key yet"):
            check_bind(host, keys)
    keys.add("one")
    check_bind("0.0.0.0", keys)


def test_hosts_are_exact() -> None:
    assert allowed_hosts("127.0.0.1", 8000) == {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"}
    assert "192.168.1.5:8000" in allowed_hosts("192.168.1.5", 8000)
    assert "0.0.0.0:8000" not in allowed_hosts("0.0.0.0", 8000)
    assert {"box.lan:80", "box.lan"} <= allowed_hosts("0.0.0.0", 80, ["Box.lan"])
    behind = allowed_hosts("127.0.0.1", 8000, ["Chat.example.com", "box.lan:8443", "fd00::1"])
    assert behind - allowed_hosts("127.0.0.1", 8000) == {
        *("chat.example.com", "chat.example.com:8000", "box.lan:8443", "[fd00::1]", "[fd00::1]:8000")
    }
    assert is_own_origin("https://chat.example.com", behind)
    assert not is_own_origin("127.0.0.1:8000", allowed_hosts("127.0.0.1", 8000))


def test_a_session_ends_with_its_key(running: Running) -> None:
    keys = Keys(running.context.keys.home)  # as another process would
    key = keys.add("eve")
    cookie = sign_in(running, key)[1].partition(";")[0]
    by_link = sign_in(running, running.context.sessions.link())[1].partition(";")[0]
    assert request(running.port, "GET", "/api/me", Cookie=cookie).status == 200
    keys.revoke("eve")
    assert request(running.port, "GET", "/api/me", Cookie=cookie).status == 401
    keys.add("eve")
    assert request(running.port, "GET", "/api/me", Cookie=cookie).status == 401
    assert request(running.port, "GET", "/api/me", Cookie=by_link).status == 200
    keys.revoke("eve")


@pytest.mark.parametrize("other", ['prefs={"a":1}', "a=b c", "a=é", "; ;=", "a=\x01", "empu_session_1=x"])
def test_cookies_of_other_servers_sign_nobody_out(running: Running, other: str) -> None:
    cookie = sign_in(running, running.context.sessions.link())[1].partition(";")[0]
    assert cookie.startswith(f"{cookie_name(running.port)}=")
    for both in (f"{other}; {cookie}", f"{cookie}; {other}"):
        assert request(running.port, "GET", "/api/me", Cookie=both).status == 200


def test_a_damaged_file_of_keys_is_said_and_health_does_not_need_it(tmp_path: Path) -> None:
    server = start(tmp_path)
    whole = server.context.keys.path.read_bytes()
    server.context.keys.path.write_bytes(b"{")
    for path in ("/v1/models", "/v1/messages"):
        reply = request(server.port, "GET", path, key=server.key)
        assert (reply.status, "cannot be read" in reply.json["error"]["message"]) == (503, True)
    assert request(server.port, "GET", "/health", key=server.key).status == 200
    assert sign_in(server, server.key)[0] == 503
    server.context.keys.path.write_bytes(whole)
    assert request(server.port, "GET", "/v1/models", key=server.key).status == 200
    server.stop()


@pytest.mark.parametrize("name", ["link", "unattended"])
def test_names_of_those_without_a_key_are_reserved(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Keys(tmp_path).add(name)


def test_sessions_are_bounded_and_links_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, keys = Sessions(), Keys(tmp_path)
    cookies = [sessions.begin("a") for _ in range(150)]
    assert sessions.owner(cookies[0], keys) is None
    assert sessions.owner(cookies[-1], keys) == "a"
    monkeypatch.setattr("empu.server.http.auth.LINK_LIFE_S", -1)
    assert not sessions.use(sessions.link())
