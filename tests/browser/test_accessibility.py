"""Accessibility: axe finds no serious violation on any page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.actions import FINISHED_ANSWER, PATHS, OpenPage, wait_until_settled
from tests.browser.conftest import ROOT, Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def axe() -> str:
    """Source of axe."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed; make web installs it")
    return AXE.read_text(encoding="utf-8")


def violations(page: Page, axe: str) -> list[str]:
    """Return the serious violations that axe finds: rule, element and reason."""
    wait_until_settled(page)
    page.evaluate(axe)
    report = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    assert len(report["passes"]) > 5
    return [
        f"{rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in report["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_no_serious_violation_on_any_page(
    open_page: OpenPage, site: Site, axe: str, markdown_conversation: str, scheme: str, width: int
) -> None:
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.wait_for_selector("#composer-input")
    for path in [*PATHS, f"/c/{markdown_conversation}"]:
        page.goto(f"{site.url}/#{path}")
        page.locator("h1, #composer-input").first.wait_for()
        assert violations(page, axe) == [], path
    page.locator(FINISHED_ANSWER).last.wait_for()
    page.get_by_role("button", name="Settings").click()
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.get_by_role("button", name="Settings").press("?")
    page.get_by_role("dialog").wait_for()
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.locator("#model-select").click()
    page.get_by_role("option").first.wait_for()
    assert violations(page, axe) == []


def test_axe_finds_no_serious_violation_on_the_sign_in_page(open_page: OpenPage, axe: str) -> None:
    page = open_page(storage_state=None)
    page.get_by_label("Access key").wait_for()
    assert violations(page, axe) == []


def test_axe_finds_a_missing_label(open_page: OpenPage, axe: str) -> None:
    page = open_page()
    page.wait_for_selector("#composer-input")
    page.evaluate("() => document.querySelector('#composer-input').removeAttribute('aria-label')")
    page.evaluate("() => document.querySelector('#composer-input').removeAttribute('placeholder')")
    assert any("label" in violation for violation in violations(page, axe))
