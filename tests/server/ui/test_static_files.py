"""The page's files: their headers, what they may load, and that wheels contain them."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from empu.server.ui import static_files
from empu.server.ui.static_files import WEB, is_page
from tests.server.raw_http import request
from tests.server.running_server import RunningServer

ROOT = Path(__file__).resolve().parents[3]
MENTIONED_HOSTS = {"www.w3.org", "react.dev", "base-ui.com", "github.com"}
"""Hosts in the built files: XML namespaces and links in error messages of libraries. The page never requests them."""

needs_build = pytest.mark.skipif(not (WEB / "index.html").is_file(), reason="the page is not built; make web builds it")


def test_without_the_page_its_path_says_how_to_build_it(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(static_files, "WEB", tmp_path)
    reply = request(server.port, "GET", "/")
    assert reply.status == 200
    assert "run <code>make web</code>" in reply.body.decode()
    assert request(server.port, "GET", "/v1/models", key=server.key).status == 200


def test_files_are_404_until_the_page_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(static_files, "WEB", tmp_path)
    with TestClient(Starlette(routes=static_files.file_routes())) as client:
        assert client.get("/assets/a.js").status_code == 404
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "a.js").write_text("1")
        assert client.get("/assets/a.js").text == "1"
        assert client.get("/assets/b.js").status_code == 404


@needs_build
def test_every_file_has_a_strict_content_security_policy(server: RunningServer) -> None:
    files = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.is_file())
    assert len(files) > 5
    for path in ["/", *(f"/{file}" for file in files if file != "index.html")]:
        assert is_page(path)
        reply = request(server.port, "GET", path)
        assert reply.status == 200
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == ("no-cache" if path == "/" else "max-age=31536000, immutable")


@pytest.mark.parametrize(
    "path", ["/assets/none.js", "/assets/../static_files.py", "/assets/%2e%2e/%2e%2e/static_files.py", "/assets/"]
)
def test_no_other_file_is_served(server: RunningServer, path: str) -> None:
    assert request(server.port, "GET", path).status in {401, 404}


@needs_build
def test_the_built_page_has_no_inline_code_and_no_other_origin() -> None:
    start = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|<style|style=|<script>|https?://", start)
    for file in WEB.rglob("*.*"):
        if file.suffix in {".js", ".css", ".svg"}:
            text = file.read_text(encoding="utf-8")
            assert set(re.findall(r"https?://([a-z0-9.-]+\.[a-z]+)", text)) <= MENTIONED_HOSTS, file.name
            if file.suffix == ".css":
                assert not re.search(r"url\(\"?(?:https?:)?//", text), file.name


@needs_build
def test_a_wheel_contains_the_page(tmp_path: Path) -> None:
    settings = ["-C", "wheel.cmake=false", "-C", f"build-dir={tmp_path / 'build'}"]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", *settings]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("empu/server/web/")}
    assert packed == {f"empu/server/web/{path.relative_to(WEB).as_posix()}" for path in WEB.rglob("*.*")}
