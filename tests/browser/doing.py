"""What a person does on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import Site

DONE = ".answer:not(.live)"


def send(page: Page, text: str) -> None:
    """Write a question and send it."""
    page.fill("#ask", text)
    page.press("#ask", "Enter")


def ask(page: Page, text: str) -> Locator:
    """Write, send, and wait for the whole answer."""
    before = page.locator(DONE).count()
    send(page, text)
    answer = page.locator(DONE).nth(before)
    answer.wait_for(timeout=60_000)
    return answer


def settings(page: Page, **values: str) -> None:
    """Set fields by their labels."""
    page.get_by_role("button", name="Settings").click()
    for label, value in values.items():
        field = page.get_by_label(label.replace("_", " "))
        field.fill(value)
        field.blur()
    page.keyboard.press("Escape")
    # What closes gives the focus back to its button, and would take it from what is typed next.
    field.wait_for(state="detached")


def choose(page: Page, model: str) -> None:
    """Choose a model."""
    page.click("#model")
    page.get_by_role("option", name=model).click()


def read(page: Page, site: Site, talk: str) -> None:
    """Open a conversation that is there, and wait for its answers."""
    page.goto(f"{site.url}/#/c/{talk}")
    page.locator(DONE).last.wait_for()
