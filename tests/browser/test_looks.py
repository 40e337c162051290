"""How the page looks and reads: to a screen reader, in the dark, on a phone, and in Indonesian."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import ROOT, Site, Watch
from tests.browser.doing import DONE, ask, choose, read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
BAD = {"serious", "critical"}
PHONE = {"width": 360, "height": 740}
SAID = """# Steps\n\nFirst `open` it, see [the manual](https://a.example), then **wait**.\n
```python\nprint("three dots")  # a comment\n```\n
| dots | meaning |\n|--|--|\n| 3 | update |\n\n- [x] done\n\n$$ E = mc^2 $$\n"""
PLACES = ["/", "/models", "/models/colours", "/models/smol", "/runs", "/feedback"]

Opens = Callable[..., "Page"]


@pytest.fixture
def opens(browser: Browser, signed_in: Any, site: Site) -> Any:
    """Opens the page in a browser of the given kind; each is watched to the end."""
    opened: list[tuple[BrowserContext, Watch]] = []

    def open_page(**kind: Any) -> Page:
        context = browser.new_context(**{"storage_state": signed_in, "locale": "en-GB"} | kind)
        context.set_default_timeout(60_000)
        page = context.new_page()
        opened.append((context, Watch(page, site.url)))
        page.goto(site.url)
        return page

    yield open_page
    for context, watch in opened:
        watch.check()
        context.close()


@pytest.fixture(scope="module")
def talk(site: Site) -> str:
    """A conversation with everything that Markdown has."""
    return site.written(SAID, SAID, completion_tokens=12, tokens_per_s=100.0, prompt_tokens=7)


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed; make web installs it")
    return AXE.read_text(encoding="utf-8")


def settle(page: Page) -> None:
    """Wait until nothing is loading or moving."""
    page.wait_for_load_state("networkidle")
    page.evaluate("() => Promise.all(document.getAnimations().map((one) => one.finished.catch(() => null)))")


def findings(page: Page, axe: str) -> list[str]:
    """What axe finds that is serious: rule, place and reason."""
    settle(page)
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 5
    return [
        f"{rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in BAD
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_serious_on_any_page(
    opens: Opens, site: Site, axe: str, talk: str, scheme: str, width: int
) -> None:
    page = opens(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.wait_for_selector("#ask")
    for place in [*PLACES, f"/c/{talk}"]:
        page.goto(f"{site.url}/#{place}")
        page.locator("h1, #ask").first.wait_for()
        assert findings(page, axe) == [], place
    page.locator(DONE).last.wait_for()
    page.get_by_role("button", name="Settings").click()
    assert findings(page, axe) == []
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.get_by_role("button", name="Settings").press("?")
    page.get_by_role("dialog").wait_for()
    assert findings(page, axe) == []
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.locator("#model").click()
    page.get_by_role("option").first.wait_for()
    assert findings(page, axe) == []


def test_axe_finds_nothing_serious_at_the_door(opens: Opens, axe: str) -> None:
    page = opens(storage_state=None)
    page.get_by_label("Key").wait_for()
    assert findings(page, axe) == []


def test_axe_would_find_something(opens: Opens, axe: str) -> None:
    page = opens()
    page.wait_for_selector("#ask")
    page.evaluate("() => document.querySelector('#ask').removeAttribute('aria-label')")
    page.evaluate("() => document.querySelector('#ask').removeAttribute('placeholder')")
    assert any("label" in one for one in findings(page, axe))


def test_dark_and_light_follow_the_system_until_one_is_chosen(opens: Opens) -> None:
    page = opens(color_scheme="dark")
    page.wait_for_selector("#ask")
    ground = "() => getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    assert max(page.evaluate(ground)) < 80
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")
    assert min(page.evaluate(ground)) > 200
    page.get_by_role("button", name="Preferences").click()
    page.get_by_role("menuitemradio", name="Dark").click()
    assert max(page.evaluate(ground)) < 80
    page.reload()
    page.wait_for_selector("#ask")
    assert max(page.evaluate(ground)) < 80


def test_the_page_fits_a_phone(opens: Opens, site: Site, talk: str) -> None:
    page = opens(viewport=PHONE, has_touch=True, is_mobile=True)
    page.wait_for_selector("#ask")
    wide = "() => [document.documentElement.scrollWidth, innerWidth]"
    for place in [*PLACES, f"/c/{talk}"]:
        page.goto(f"{site.url}/#{place}")
        page.locator("h1, #ask").first.wait_for()
        settle(page)
        needed, there = page.evaluate(wide)
        assert needed <= there == PHONE["width"], place
    page.get_by_role("button", name="Menu").tap()
    page.get_by_role("button", name="New conversation", exact=True).tap()
    page.locator("#ask").tap()
    page.fill("#ask", "blue parcel1 late2 order3")
    page.locator("#model").tap()
    page.get_by_role("option", name="colours").tap()
    page.get_by_role("button", name="Send").tap()
    page.locator(DONE).wait_for()
    box = page.locator("#ask").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= PHONE["height"]
    small = page.evaluate(
        "() => [...document.querySelectorAll('main button, header button')].filter((one) => one.offsetParent)"
        ".map((one) => [one.ariaLabel ?? one.innerText, one.offsetWidth, one.offsetHeight])"
        ".filter(([, width, height]) => Math.min(width, height) < 24)"
    )
    assert small == [], "buttons that a finger misses"


def test_the_page_speaks_indonesian(opens: Opens, site: Site, talk: str) -> None:
    page = opens(locale="id-ID")
    page.get_by_placeholder("Tanyakan sesuatu").wait_for()
    assert page.locator("html").get_attribute("lang") == "id"
    choose(page, "colours")
    answer = ask(page, "blue parcel1 late2 order3")
    assert "token" in answer.locator(".known").inner_text()
    assert "," in answer.locator(".label").inner_text(), "a decimal comma"
    read(page, site, talk)
    english = {"Copy answer", "Answer again", "Good answer", "Settings", "Send", "Search conversations"}
    names = page.evaluate("() => [...document.querySelectorAll('[aria-label]')].map((one) => one.ariaLabel)")
    assert len(names) > 8
    assert not english & set(names)
    for place, title in (("/models", "Model"), ("/runs", "Pelatihan"), ("/feedback", "Umpan balik")):
        page.goto(f"{site.url}/#{place}")
        page.get_by_role("heading", name=title, level=1).wait_for()
    page.get_by_role("button", name="Preferensi").click()
    page.get_by_role("menuitemradio", name="English").click()
    page.get_by_role("heading", name="Feedback", level=1).wait_for()
    page.reload()
    page.get_by_role("heading", name="Feedback", level=1).wait_for()
    assert page.locator("html").get_attribute("lang") == "en"


def test_everything_is_said_in_both_languages() -> None:
    """That no word is missing is what the page's types say; here: that few are left as they were in English."""
    text = (ROOT / "web" / "src" / "lib" / "words.ts").read_text(encoding="utf-8")
    english, indonesian = (
        dict(re.findall(r"^  (\w+):\s+\"(.*)\",$", part, re.M)) for part in text.split("export const id")
    )
    assert english.keys() == indonesian.keys()
    same = {name for name in english if english[name] == indonesian[name] and re.search(r"[a-z]{4}", english[name])}
    assert same <= {"model"}
