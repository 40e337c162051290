"""Fixtures: Chromium, and ``empu serve`` with the default model, a small base model and a specialist tuned from it."""

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

from empu.chat.conversations import ConversationStore
from empu.server.ui.static_files import WEB
from tests.browser.actions import OpenPage
from tests.specialist.samples import labelled_csv
from tests.specialist.workspace import RECIPE_OPTIONS, Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MARKDOWN = """# Steps\n\nFirst `open` it, see [the manual](https://a.example), then **wait**.\n
```python\nprint("three dots")  # a comment\n```\n
| dots | meaning |\n|--|--|\n| 3 | update |\n\n- [x] done\n\n$$ E = mc^2 $$\n"""


@dataclass(frozen=True)
class Site:
    """A running server and its store."""

    url: str
    key: str
    sign_in: str
    home: Path
    workspace: Workspace

    def conversations(self) -> ConversationStore:
        """The store's conversations, as the server sees them; the browser's user is ``first``."""
        return ConversationStore(self.home)

    def write_conversation(self, *answers: str, model: str = "smol", **facts: object) -> str:
        """Store a conversation with the given answers; return its id."""
        store = self.conversations()
        conversation = store.create("first", model, {}, "Written")
        last = None
        for answer in answers:
            question = store.add_message("first", conversation.id, last, "user", "Say it.")
            last = store.add_message(
                "first", conversation.id, question.id, "assistant", answer, {"model": model, **facts}
            ).id
        store.close()
        return conversation.id


@pytest.fixture(scope="package")
def chromium() -> str:
    """Path of Chromium. Skips without it, without Playwright, or without the built page."""
    if not (WEB / "index.html").is_file():
        pytest.skip("the page is not built; make web builds it")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright, which drives the browser, is not installed")
    path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if path is None:
        pytest.skip("Chromium is not installed; on Debian: apt install chromium")
    return path


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser for all tests. It resolves no host names."""
    from playwright.sync_api import sync_playwright

    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    arguments = [rules, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def site(chromium: str, default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server that all browser tests share."""
    workspace = Workspace(tmp_path_factory.mktemp("browser")).with_rows("rows.csv", labelled_csv(80))
    workspace.empu("pull", str(default_gguf), "--name", "smol")
    workspace.empu("tune", "rows.csv", "--name", "colours", "--licence", "CC0-1.0", *RECIPE_OPTIONS, "--epochs", "4")
    home, log = workspace.folder / "home", workspace.folder / "serve.log"
    command = [sys.executable, "-m", "empu", "serve", "--port", "0", "--json"]
    env = {**os.environ, "EMPU_HOME": str(home), "OMP_NUM_THREADS": "1"}
    # The log goes to a file: an unread pipe would fill up and block the server.
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, log.read_text(encoding="utf-8")
        text += line
    started: dict[str, Any] = json.loads(text)
    yield Site(started["address"], started["key"], started["sign_in"], home, workspace)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


@pytest.fixture(scope="package")
def signed_in(browser: Browser, site: Site) -> Any:
    """Browser state with the cookie of a signed-in session."""
    context = browser.new_context()
    context.request.post(f"{site.url}/api/signin", data={"code": site.key})
    state = context.storage_state()
    context.close()
    return state


class PageMonitor:
    """Records a page's requests to other hosts, and its errors and warnings."""

    def __init__(self, page: Page, url: str) -> None:
        self.own_url = url
        self.foreign_requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self._record_request(request.url))
        page.on("console", lambda message: self._record_message(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _record_request(self, url: str) -> None:
        if not url.startswith((self.own_url, "data:", "blob:")):
            self.foreign_requests.append(url)

    def _record_message(self, kind: str, text: str) -> None:
        # HTTP errors are expected: the page shows them, and tests check that.
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource: the server responded"):
            self.errors.append(text)

    def check(self) -> None:
        assert self.foreign_requests == []
        assert self.errors == []


@pytest.fixture
def context(browser: Browser, signed_in: Any) -> Iterator[BrowserContext]:
    """A signed-in browser window of 1280 by 800 in English."""
    created = browser.new_context(storage_state=signed_in, locale="en-GB", viewport={"width": 1280, "height": 800})
    created.set_default_timeout(60_000)
    yield created
    created.close()


@pytest.fixture
def page(context: BrowserContext, site: Site) -> Iterator[Page]:
    """The loaded page. Fails the test if it asks another host or reports an error."""
    created = context.new_page()
    monitor = PageMonitor(created, site.url)
    created.goto(site.url)
    created.wait_for_selector("#composer-input")
    yield created
    monitor.check()


@pytest.fixture
def open_page(browser: Browser, signed_in: Any, site: Site) -> Iterator[OpenPage]:
    """Open the page in a new browser context with the given options, signed in. Each page is monitored."""
    opened: list[tuple[BrowserContext, PageMonitor]] = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(**{"storage_state": signed_in, "locale": "en-GB"} | options)
        context.set_default_timeout(60_000)
        page = context.new_page()
        opened.append((context, PageMonitor(page, site.url)))
        page.goto(site.url)
        return page

    yield open_page
    for context, monitor in opened:
        monitor.check()
        context.close()


@pytest.fixture(scope="package")
def markdown_conversation(site: Site) -> str:
    """A conversation whose answers have all kinds of Markdown."""
    return site.write_conversation(MARKDOWN, MARKDOWN, completion_tokens=12, tokens_per_s=100.0, prompt_tokens=7)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all browser tests in one worker, since they share a server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))
