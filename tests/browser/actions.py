"""Actions of a user on the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import Site

FINISHED_ANSWER = ".answer:not(.streaming)"
PATHS = ["/", "/models", "/models/colours", "/models/smol", "/runs", "/feedback"]
"""Pages of the site, without the conversations."""

OpenPage = Callable[..., "Page"]
"""The fixture ``open_page``: opens the page in a new browser context with the given options."""


def send(page: Page, text: str) -> None:
    """Send a question."""
    page.fill("#composer-input", text)
    page.press("#composer-input", "Enter")


def ask(page: Page, text: str) -> Locator:
    """Send a question and wait until its answer is finished."""
    before = page.locator(FINISHED_ANSWER).count()
    send(page, text)
    answer = page.locator(FINISHED_ANSWER).nth(before)
    answer.wait_for(timeout=60_000)
    return answer


def change_settings(page: Page, **values: str) -> None:
    """Fill fields of the settings panel by their labels."""
    page.get_by_role("button", name="Settings").click()
    for label, value in values.items():
        field = page.get_by_label(label.replace("_", " "))
        field.fill(value)
        field.blur()
    page.keyboard.press("Escape")
    # The closing panel returns the focus to its button, away from what is typed next.
    field.wait_for(state="detached")


def select_model(page: Page, model: str) -> None:
    """Select the model that answers."""
    page.click("#model-select")
    page.get_by_role("option", name=model).click()


def open_conversation(page: Page, site: Site, conversation: str) -> None:
    """Open a conversation and wait for its answers."""
    page.goto(f"{site.url}/#/c/{conversation}")
    page.locator(FINISHED_ANSWER).last.wait_for()


def wait_until_settled(page: Page) -> None:
    """Wait until all requests and animations have ended."""
    page.wait_for_load_state("networkidle")
    page.evaluate("() => Promise.all(document.getAnimations().map(({ finished }) => finished.catch(() => null)))")
