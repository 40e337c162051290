"""``empu keys``: shown once, kept as hashes, and a running server knows of every change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.server.raw_http import request
from tests.server.running_server import start_server


def test_keys_are_made_listed_and_revoked(empu: Run, home: Path) -> None:
    assert "no key yet" in empu("keys", "list").err
    made = empu("keys", "add", "laptop")
    assert made.out.startswith("empu-")
    assert made.out.strip() not in (home / "server" / "keys.json").read_text()
    assert empu("keys", "add", "phone", "--json").json["key"].startswith("empu-")
    assert [key["name"] for key in empu("keys", "list", "--json").json["keys"]] == ["laptop", "phone"]
    assert "laptop" in empu("keys", "list").out
    again = empu("keys", "add", "laptop")
    assert again.code != 0
    assert "already" in again.err
    assert empu("keys", "revoke", "laptop").code == 0
    assert empu("keys", "revoke", "laptop", "--json").json["error"]["exit_code"] == 2
    assert [key["name"] for key in empu("keys", "list", "--json").json["keys"]] == ["phone"]


def test_a_running_server_knows_of_every_change(empu: Run, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = start_server(home)
    key = empu("keys", "add", "visitor").out.strip()
    with caplog.at_level("INFO", logger="empu.server"):
        assert request(server.port, "GET", "/v1/models", key=key).status == 200
    assert '"key": "visitor"' in caplog.text
    assert empu("keys", "revoke", "visitor").code == 0
    assert request(server.port, "GET", "/v1/models", key=key).status == 401
    assert request(server.port, "GET", "/v1/models", key=server.key).status == 200
    server.stop()
