"""Authentication of every route, by every way to send a key; Host and Origin; keys and sessions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from empu.errors import StoreError, UsageError
from empu.server.app import ServerApp, is_public
from empu.server.http.api_keys import ApiKeys
from empu.server.http.hosts import allowed_hosts, check_bind, is_own_origin
from empu.server.http.sessions import Sessions, cookie_name
from tests.server.raw_http import request
from tests.server.running_server import MODEL_NAMES, RunningServer, start_server

UNKNOWN_PATHS = ["/nothing", "/v1/nothing", "/../etc/passwd", "//", "//v1/models", "/v1/models/", "/%61pi/me"]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def app_of(server: RunningServer) -> ServerApp:
    app = server.uvicorn_server.config.app
    assert isinstance(app, ServerApp)
    return app


def route_paths(server: RunningServer) -> set[str]:
    """Return the path of every route, with a value for each parameter."""
    paths = {re.sub(r"\{[^}]+\}", "tiny", getattr(route, "path", "")) for route in app_of(server).routes}
    assert {"/", "/assets", "/health", "/metrics", "/v1/messages", "/api/messages/tiny/feedback"} <= paths
    return paths - {"/assets"} | {"/assets/tiny.js"}


@pytest.mark.parametrize("method", METHODS)
def test_every_path_but_health_and_page_needs_a_key(server: RunningServer, method: str) -> None:
    body = b"{}" if method in {"POST", "PUT", "PATCH"} else None
    for path in sorted({*route_paths(server), *UNKNOWN_PATHS}):
        status = request(server.port, method, path, body=body).status
        assert status in {200, 400, 404, 405} if is_public(path) else status == 401, path
        assert request(server.port, method, path, key="empu-wrong", body=body).status == status, path
        assert request(server.port, method, path, key=server.key, body=body).status != 401, path


def test_the_methods_above_cover_all_routes(server: RunningServer) -> None:
    routes = app_of(server).routes
    assert {method for route in routes for method in getattr(route, "methods", None) or ()} <= set(METHODS)


def test_a_key_is_accepted_as_bearer_or_x_api_key(server: RunningServer) -> None:
    assert request(server.port, "GET", "/v1/models").status == 401
    assert request(server.port, "GET", "/v1/models", x_api_key=server.key).status == 200
    assert request(server.port, "GET", "/v1/models", Authorization=f"bearer {server.key}").status == 200
    assert request(server.port, "GET", "/v1/models", Authorization=f"Basic {server.key}").status == 401
    assert request(server.port, "GET", f"/v1/models?key={server.key}").status == 401
    wrong_bearer = request(server.port, "GET", "/v1/models", key="empu-wrong", x_api_key=server.key)
    assert wrong_bearer.status == 401


def test_a_missing_key_and_an_unknown_key_have_different_messages(server: RunningServer) -> None:
    no_key, unknown_key = (request(server.port, "GET", "/v1/models", key=key).body for key in (None, "empu-wrong"))
    assert b"A key is needed" in no_key
    assert b"unknown or was revoked" in unknown_key
    assert b"empu keys add" in unknown_key


def sign_in(server: RunningServer, code: str) -> tuple[int, str]:
    reply = request(server.port, "POST", "/api/signin", body=json.dumps({"code": code}).encode())
    return reply.status, reply.headers.get("set-cookie", "")


def test_the_sign_in_link_works_once_and_sets_a_cookie(server: RunningServer) -> None:
    code = server.state.sessions.create_code()
    status, cookie = sign_in(server, code)
    assert status == 200
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    value = cookie.partition(";")[0]
    assert request(server.port, "GET", "/api/me", Cookie=value).json["models"] == MODEL_NAMES
    assert sign_in(server, code)[0] == 401
    assert sign_in(server, server.key)[0] == 200
    assert request(server.port, "POST", "/api/signout", body=b"", Cookie=value).status == 200
    assert request(server.port, "GET", "/api/me", Cookie=value).status == 401
    assert request(server.port, "GET", "/api/me", Cookie=f"{cookie_name(server.port)}=guess; a=\x01;;=").status == 401


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", "127.0.0.1:{port}.", ""]
)
def test_another_host_is_refused_even_with_a_key(server: RunningServer, host: str) -> None:
    header = host.format(port=server.port) or " "
    for path in ("/v1/models", "/", "/health"):
        assert request(server.port, "GET", path, key=server.key, host=header).status in {400, 403}


def test_own_hosts_are_accepted(server: RunningServer) -> None:
    for host in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]"):
        assert request(server.port, "GET", "/v1/models", key=server.key, host=f"{host}:{server.port}").status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:{port}.evil", "http://localhost:1"]
)
def test_a_foreign_origin_is_refused_even_with_a_key(server: RunningServer, origin: str) -> None:
    header = origin.format(port=server.port)
    for method, path in (("POST", "/v1/chat/completions"), ("OPTIONS", "/v1/models"), ("POST", "/api/signin")):
        reply = request(server.port, method, path, key=server.key, body=b"{}", Origin=header)
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers


def test_the_own_origin_is_accepted(server: RunningServer) -> None:
    origin = f"http://localhost:{server.port}"
    assert request(server.port, "GET", "/v1/models", key=server.key, Origin=origin).status == 200


def test_keys_are_stored_as_hashes_in_a_private_file(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    key = keys.add("laptop")
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert key not in keys.path.read_text()
    reloaded = ApiKeys(tmp_path)
    assert reloaded.owner(key) == "laptop"
    assert reloaded.owner(key + "x") is None
    assert list(reloaded.names()) == ["laptop"]
    with pytest.raises(UsageError, match="already"):
        reloaded.add("laptop")
    reloaded.revoke("laptop")
    assert ApiKeys(tmp_path).owner(key) is None
    with pytest.raises(UsageError, match="no key"):
        reloaded.revoke("laptop")
    keys.path.write_text("[1]")
    with pytest.raises(StoreError, match="cannot be read"):
        ApiKeys(tmp_path)


def test_binding_beyond_loopback_needs_a_key(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    for host in ("127.0.0.1", "localhost", "::1"):
        check_bind(host, keys)
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(UsageError, match="no key yet"):
            check_bind(host, keys)
    keys.add("one")
    check_bind("0.0.0.0", keys)


def test_allowed_hosts_are_exact() -> None:
    assert allowed_hosts("127.0.0.1", 8000) == {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"}
    assert "192.168.1.5:8000" in allowed_hosts("192.168.1.5", 8000)
    assert "0.0.0.0:8000" not in allowed_hosts("0.0.0.0", 8000)
    assert {"box.lan:80", "box.lan"} <= allowed_hosts("0.0.0.0", 80, ["Box.lan"])
    behind_proxy = allowed_hosts("127.0.0.1", 8000, ["Chat.example.com", "box.lan:8443", "fd00::1"])
    assert behind_proxy - allowed_hosts("127.0.0.1", 8000) == {
        *("chat.example.com", "chat.example.com:8000", "box.lan:8443", "[fd00::1]", "[fd00::1]:8000")
    }
    assert is_own_origin("https://chat.example.com", behind_proxy)
    assert not is_own_origin("127.0.0.1:8000", allowed_hosts("127.0.0.1", 8000))


def test_a_session_ends_when_its_key_is_revoked(server: RunningServer) -> None:
    keys = ApiKeys(server.state.keys.home)  # as another process would
    key = keys.add("eve")
    cookie = sign_in(server, key)[1].partition(";")[0]
    link_cookie = sign_in(server, server.state.sessions.create_code())[1].partition(";")[0]
    assert request(server.port, "GET", "/api/me", Cookie=cookie).status == 200
    keys.revoke("eve")
    assert request(server.port, "GET", "/api/me", Cookie=cookie).status == 401
    keys.add("eve")
    assert request(server.port, "GET", "/api/me", Cookie=cookie).status == 401
    assert request(server.port, "GET", "/api/me", Cookie=link_cookie).status == 200
    keys.revoke("eve")


@pytest.mark.parametrize("other", ['prefs={"a":1}', "a=b c", "a=é", "; ;=", "a=\x01", "empu_session_1=x"])
def test_cookies_of_other_servers_do_not_sign_out(server: RunningServer, other: str) -> None:
    cookie = sign_in(server, server.state.sessions.create_code())[1].partition(";")[0]
    assert cookie.startswith(f"{cookie_name(server.port)}=")
    for header in (f"{other}; {cookie}", f"{cookie}; {other}"):
        assert request(server.port, "GET", "/api/me", Cookie=header).status == 200


def test_a_damaged_key_file_is_reported_and_health_works_without_it(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    content = server.state.keys.path.read_bytes()
    server.state.keys.path.write_bytes(b"{")
    for path in ("/v1/models", "/v1/messages"):
        reply = request(server.port, "GET", path, key=server.key)
        assert (reply.status, "cannot be read" in reply.json["error"]["message"]) == (503, True)
    assert request(server.port, "GET", "/health", key=server.key).status == 200
    assert sign_in(server, server.key)[0] == 503
    server.state.keys.path.write_bytes(content)
    assert request(server.port, "GET", "/v1/models", key=server.key).status == 200
    server.stop()


@pytest.mark.parametrize("name", ["link", "unattended"])
def test_names_of_users_without_a_key_are_reserved(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        ApiKeys(tmp_path).add(name)


def test_sessions_are_bounded_and_codes_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, keys = Sessions(), ApiKeys(tmp_path)
    cookies = [sessions.start("a") for _ in range(150)]
    assert sessions.owner(cookies[0], keys) is None
    assert sessions.owner(cookies[-1], keys) == "a"
    monkeypatch.setattr("empu.server.http.sessions.CODE_LIFETIME_S", -1)
    assert not sessions.redeem_code(sessions.create_code())
