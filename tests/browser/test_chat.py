"""Conversations as people hold them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Site
from tests.browser.doing import DONE, ask, choose, send, settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

QUESTION = "What is the capital of Indonesia?"
LONG = "Write a very long story about a ship."
"""At temperature 0 the default model goes on for thousands of tokens."""


def test_the_first_visit_ends_signed_in(browser: Browser, site: Site) -> None:
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(site.url)
    page.get_by_label("Key").fill("empu-wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("unknown").wait_for()
    page.goto("about:blank")
    page.goto(site.sign_in)
    page.wait_for_selector("#ask")
    assert "code" not in page.url
    assert page.locator(".greeting").is_visible()
    page.reload()
    page.wait_for_selector("#ask")
    context.close()
    again = browser.new_context(locale="en-GB")
    page = again.new_page()
    page.goto(site.sign_in)
    page.get_by_text("was used already").wait_for()
    page.get_by_label("Key").fill(site.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask")
    page.get_by_role("button", name="Preferences").click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.get_by_label("Key").wait_for()
    again.close()


def test_a_link_pasted_into_the_open_sign_in_page_signs_in(browser: Browser, site: Site) -> None:
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(site.url)
    page.get_by_label("Key").fill("empu-wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("unknown").wait_for()
    page.goto(f"{site.url}/#code=no-such-code")  # only what is behind # changes: nothing is loaded anew
    page.get_by_text("was used already").wait_for()
    assert page.get_by_text("unknown").count() == 0
    assert "code" not in page.url
    context.close()


def test_what_was_typed_stays_with_its_conversation(page: Page, site: Site) -> None:
    talk = site.written("Here.")
    page.goto(f"{site.url}/#/c/{talk}")
    page.locator(DONE).wait_for()
    page.locator("#ask").fill("half a thought")
    page.get_by_role("button", name="New conversation").click()
    page.locator(".greeting").wait_for()
    assert page.locator("#ask").input_value() == ""
    page.go_back()
    page.locator(DONE).wait_for()
    assert page.locator("#ask").input_value() == "half a thought"


def test_an_answer_that_breaks_off_stays_and_can_be_asked_for_again(page: Page) -> None:
    choose(page, "smol")
    settings(page, Temperature="0")
    send(page, LONG)
    page.locator(".live .words").get_by_text(re.compile(r"\w+ \w+ \w+")).first.wait_for()
    page.context.set_offline(True)
    page.route("**/api/**", lambda route: route.abort())
    # The connection that is open goes on; what breaks it is the server's end.
    page.evaluate("window.stop()")
    page.get_by_text("broken off").wait_for()
    assert page.get_by_text(LONG).last.is_visible()
    page.unroute("**/api/**")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    page.locator(".live").wait_for()
    assert page.locator("#ask").input_value() == ""
    page.keyboard.press("Escape")
    page.locator(DONE).wait_for()


def test_what_fails_without_a_place_of_its_own_is_said(context: BrowserContext, site: Site) -> None:
    page = context.new_page()  # without the fixture's watch: a browser itself complains of what is lost
    page.goto(f"{site.url}/#/c/{site.written('Here.')}")
    page.locator(DONE).wait_for()
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("button", name="Good answer").click()
    page.locator(".notice").get_by_text("cannot be reached").wait_for()
    page.locator(".notice button").click()
    page.get_by_label("Search conversations").fill("anything")
    page.locator(".notice").wait_for()
    page.unroute("**/api/**")


def test_settings_that_cannot_be_are_marked(page: Page) -> None:
    choose(page, "colours")
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("nothing to set for this model").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("nothing to set for this model").wait_for(state="detached")
    choose(page, "smol")
    page.get_by_role("button", name="Settings").click()
    longest = page.get_by_label("Longest answer")
    assert longest.get_attribute("max") == "8192"
    longest.fill("0")
    page.get_by_role("alert").get_by_text("A whole number from 1").wait_for()
    assert longest.get_attribute("aria-invalid") == "true"
    longest.fill("64")
    page.get_by_text("A whole number from 1").wait_for(state="detached")


def test_a_question_is_answered_kept_found_renamed_exported_and_deleted(page: Page, tmp_path: Path) -> None:
    choose(page, "smol")
    settings(page, Temperature="0")
    answer = ask(page, QUESTION)
    assert "Jakarta" in answer.inner_text()
    known = answer.locator(".known").inner_text()
    assert re.search(r"smol · \d+ tokens · \d+ tokens/s · first after [\d.]+ m?s · \d+ tokens of prompt", known)
    words = answer.locator(".words").inner_text()
    page.reload()
    page.locator(DONE).wait_for()
    assert page.locator(f"{DONE} .words").inner_text() == words
    assert page.title() == f"{QUESTION} · Empu"

    page.get_by_label("Search conversations").fill("JAKARTA")
    page.locator(".list .found").first.wait_for()
    assert page.locator(".list li").count() == 1
    page.get_by_role("button", name="More:").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("Title").fill("The capital")
    page.get_by_role("button", name="Save").click()
    page.locator(".list .title", has_text="The capital").wait_for()

    page.get_by_role("button", name="More:").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export").click()
    download.value.save_as(tmp_path / "talk.json")
    (talk,) = json.loads((tmp_path / "talk.json").read_text())["conversations"]
    assert talk["title"] == "The capital"
    assert [message["role"] for message in talk["messages"]] == ["user", "assistant"]

    page.get_by_role("button", name="More:").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    page.get_by_text("Nothing found").wait_for()
    page.locator(".greeting").wait_for()


@pytest.mark.parametrize("how", ["button", "escape"])
def test_an_answer_is_stopped_and_what_there_is_of_it_stays(page: Page, how: str) -> None:
    choose(page, "smol")
    settings(page, Temperature="0")
    send(page, LONG)
    page.locator(".live .words").wait_for()
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    answer = page.locator(DONE)
    answer.wait_for()
    assert "stopped" in answer.locator(".known").inner_text()
    assert answer.locator(".words").inner_text()
    assert ask(page, QUESTION).locator(".words").inner_text()


def test_who_loads_the_page_anew_finds_what_was_written(page: Page) -> None:
    choose(page, "smol")
    settings(page, Temperature="0")
    send(page, LONG)
    page.locator(".live .words").wait_for()
    page.reload()
    answer = page.locator(DONE)
    answer.wait_for()
    assert "stopped" in answer.locator(".known").inner_text()
    assert answer.locator(".words").inner_text()


def test_another_answer_and_an_edited_question_are_versions(page: Page) -> None:
    choose(page, "smol")
    settings(page, Temperature="0")
    ask(page, "Name one colour.")
    page.get_by_role("button", name="Answer again").click()
    page.locator(".answer .versions", has_text="2 of 2").wait_for()
    page.get_by_role("button", name="Previous version").click()
    page.locator(".answer .versions", has_text="1 of 2").wait_for()
    page.locator(".question").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit your question").fill(QUESTION)
    page.keyboard.press("Enter")
    page.locator(".question .versions", has_text="2 of 2").wait_for()
    page.locator(DONE).wait_for()
    assert "Jakarta" in page.locator(DONE).inner_text()
    page.locator(".question").get_by_role("button", name="Previous version").click()
    page.locator(".bubble", has_text="Name one colour.").wait_for()
    page.reload()
    page.locator(".bubble", has_text="Name one colour.").wait_for()


def test_the_model_is_chosen_and_a_specialist_names_a_label(page: Page) -> None:
    choose(page, "colours")
    page.get_by_text("it names one of 2 labels").wait_for()
    page.locator(".examples button").first.wait_for()
    answer = ask(page, "blue parcel1 late2 order3")
    assert answer.locator(".label strong").inner_text() in {"red", "blue"}
    assert re.search(r"\d+\.\d % sure", answer.locator(".label").inner_text())
    assert re.search(r"\d+\.\d %", answer.locator(".labels li").first.inner_text())
    assert answer.get_by_role("button", name="Answer again").count() == 0
    choose(page, "smol")
    settings(page, Temperature="0")
    assert "Jakarta" in ask(page, QUESTION).inner_text()
    page.reload()
    page.locator(DONE).nth(1).wait_for()
    page.locator("#model", has_text="smol").wait_for()


def test_settings_hold_for_the_conversation(page: Page) -> None:
    choose(page, "smol")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Always answer with the word banana.")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Longest answer").fill("5")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Seed").blur()
    page.keyboard.press("Escape")
    answer = ask(page, LONG)
    assert "5 tokens" in answer.locator(".known").inner_text()
    assert "cut at its limit" in answer.locator(".known").inner_text()
    again = page.get_by_role("button", name="Answer again")
    again.click()
    page.locator(".answer .versions", has_text="2 of 2").wait_for()
    second = page.locator(f"{DONE} .words").inner_text()
    page.get_by_role("button", name="Previous version").click()
    page.locator(".answer .versions", has_text="1 of 2").wait_for()
    assert page.locator(f"{DONE} .words").inner_text() == second
    page.reload()
    page.locator(DONE).wait_for()
    page.get_by_role("button", name="Settings").click()
    assert page.get_by_label("System prompt").input_value() == "Always answer with the word banana."


def test_a_question_that_cannot_be_answered_is_not_lost(page: Page) -> None:
    choose(page, "colours")
    text = "red " * 2000
    page.fill("#ask", text)
    page.keyboard.press("Enter")
    page.locator(".failure").get_by_text("tokens").wait_for()
    assert page.locator("#ask").input_value().strip() == text.strip()


def test_everything_can_be_done_with_keys(page: Page) -> None:
    choose(page, "smol")
    page.locator("#model").press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.locator("#model").press("/")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    page.locator(DONE).wait_for()
    page.keyboard.press("Alt+r")
    page.locator(".answer .versions", has_text="2 of 2").wait_for()
    page.keyboard.press("ArrowUp")
    page.get_by_label("Edit your question").wait_for()
    assert page.get_by_label("Edit your question").input_value() == QUESTION
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("capital")
    page.locator(".list .found").first.wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+O")
    page.locator(".greeting").wait_for()
    page.keyboard.type("still in the field")
    assert page.locator("#ask").input_value() == "still in the field"
