"""Appearance: themes, and pages on a phone."""

from __future__ import annotations

import pytest

from tests.browser.actions import FINISHED_ANSWER, PATHS, OpenPage, wait_until_settled
from tests.browser.conftest import Site

PHONE = {"width": 360, "height": 740}
BACKGROUND = "() => getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"


def test_theme_follows_the_system_until_one_is_selected(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    page.wait_for_selector("#composer-input")
    assert max(page.evaluate(BACKGROUND)) < 80
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")
    assert min(page.evaluate(BACKGROUND)) > 200
    page.get_by_role("button", name="Preferences").click()
    page.get_by_role("menuitemradio", name="Dark").click()
    assert max(page.evaluate(BACKGROUND)) < 80
    page.reload()
    page.wait_for_selector("#composer-input")
    assert max(page.evaluate(BACKGROUND)) < 80


@pytest.mark.parametrize("locale", ["en-GB", "id-ID"])
def test_pages_are_not_wider_than_a_phone(
    open_page: OpenPage, site: Site, markdown_conversation: str, locale: str
) -> None:
    page = open_page(locale=locale, viewport=PHONE, has_touch=True, is_mobile=True)
    page.wait_for_selector("#composer-input")
    for path in [*PATHS, f"/c/{markdown_conversation}"]:
        page.goto(f"{site.url}/#{path}")
        page.locator("h1, #composer-input").first.wait_for()
        wait_until_settled(page)
        content_width, window_width = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert content_width <= window_width == PHONE["width"], path


def test_chat_works_on_a_phone(open_page: OpenPage) -> None:
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.wait_for_selector("#composer-input")
    page.get_by_role("button", name="Menu").tap()
    page.get_by_role("button", name="New conversation", exact=True).tap()
    page.locator("#composer-input").tap()
    page.fill("#composer-input", "blue parcel1 late2 order3")
    page.locator("#model-select").tap()
    page.get_by_role("option", name="colours").tap()
    page.get_by_role("button", name="Send").tap()
    page.locator(FINISHED_ANSWER).wait_for()
    box = page.locator("#composer-input").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= PHONE["height"]
    small_buttons = page.evaluate(
        "() => [...document.querySelectorAll('main button, header button')].filter((button) => button.offsetParent)"
        ".map((button) => [button.ariaLabel ?? button.innerText, button.offsetWidth, button.offsetHeight])"
        ".filter(([, width, height]) => Math.min(width, height) < 24)"
    )
    assert small_buttons == [], "too small for a finger"
