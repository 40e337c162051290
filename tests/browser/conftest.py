"""A real Chromium before a real ``empu serve``: the default model, a small base, and a specialist made of it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from empu.chat.conversations import Conversations
from empu.server.ui.static_files import WEB
from tests.specialist.making import labelled
from tests.specialist.test_job import RECIPE, Works

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Site:
    """A server that runs, its store, and a browser's state that is signed in."""

    url: str
    key: str
    sign_in: str
    home: Path
    works: Works

    def conversations(self) -> Conversations:
        """The store's conversations, as the server sees them; the browser's user is ``first``."""
        return Conversations(self.home)

    def written(self, *answers: str, model: str = "smol", **facts: object) -> str:
        """A conversation whose answers are given; its id."""
        kept = self.conversations()
        talk = kept.begin("first", model, {}, "Written")
        last = None
        for answer in answers:
            asked = kept.add("first", talk.id, last, "user", "Say it.")
            last = kept.add("first", talk.id, asked.id, "assistant", answer, {"model": model, **facts}).id
        kept.close()
        return talk.id


@pytest.fixture(scope="package")
def chromium() -> str:
    """Where Chromium is; skips where it, its driver or the built page is absent."""
    if not (WEB / "index.html").is_file():
        pytest.skip("the page is not built; make web builds it")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright, which drives the browser, is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("Chromium is not installed; on Debian: apt install chromium")
    return found


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser for all tests. It cannot find any other host by name."""
    from playwright.sync_api import sync_playwright

    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    arguments = [rules, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def site(chromium: str, default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server of all these tests."""
    works = Works(tmp_path_factory.mktemp("browser")).begin("rows.csv", labelled(80))
    works.empu("pull", str(default_gguf), "--name", "smol")
    works.empu("tune", "rows.csv", "--name", "colours", "--licence", "CC0-1.0", *RECIPE, "--epochs", "4")
    home, log = works.folder / "home", works.folder / "serve.log"
    command = [sys.executable, "-m", "empu", "serve", "--port", "0", "--json"]
    env = {**os.environ, "EMPU_HOME": str(home), "OMP_NUM_THREADS": "1"}
    # Its log goes to a file: a pipe that nobody reads would fill and hold the server up.
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, log.read_text(encoding="utf-8")
        text += line
    said: dict[str, Any] = json.loads(text)
    yield Site(said["address"], said["key"], said["sign_in"], home, works)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


@pytest.fixture(scope="package")
def signed_in(browser: Browser, site: Site) -> Any:
    """Cookies of somebody who has signed in with the key."""
    context = browser.new_context()
    context.request.post(f"{site.url}/api/signin", data={"code": site.key})
    state = context.storage_state()
    context.close()
    return state


class Watch:
    """What a page asked for and complained about."""

    def __init__(self, page: Page, url: str) -> None:
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda one: None if one.url.startswith((url, "data:", "blob:")) else self._note(one.url))
        page.on("console", lambda one: self._hear(one.type, one.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, url: str) -> None:
        self.foreign.append(url)

    def _hear(self, kind: str, text: str) -> None:
        # A refusal by the server is shown on the page, and tests look for it there.
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource: the server responded"):
            self.complaints.append(text)

    def check(self) -> None:
        assert self.foreign == []
        assert self.complaints == []


@pytest.fixture
def context(browser: Browser, signed_in: Any) -> Iterator[BrowserContext]:
    """A signed-in browser of 1280 by 800 in English."""
    made = browser.new_context(storage_state=signed_in, locale="en-GB", viewport={"width": 1280, "height": 800})
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, site: Site) -> Iterator[Page]:
    """The page, loaded. Whatever a test does, it asks nobody else and complains of nothing."""
    opened = context.new_page()
    watch = Watch(opened, site.url)
    opened.goto(site.url)
    opened.wait_for_selector("#ask")
    yield opened
    watch.check()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker does them all, since they share a server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))
