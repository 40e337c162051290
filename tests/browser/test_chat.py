"""Conversations: signing in, asking, stopping, editing, settings and keyboard shortcuts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.actions import FINISHED_ANSWER, ask, change_settings, open_conversation, select_model, send
from tests.browser.conftest import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

QUESTION = "What is the capital of Indonesia?"
LONG = "Write a very long story about a ship."
"""At temperature 0 the default model answers this with thousands of tokens."""


def test_wrong_key_used_link_and_right_key(browser: Browser, site: Site) -> None:
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(site.url)
    page.get_by_label("Access key").fill("empu-wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("unknown").wait_for()
    page.goto("about:blank")
    page.goto(site.sign_in)
    page.wait_for_selector("#composer-input")
    assert "code" not in page.url
    assert page.locator(".greeting").is_visible()
    page.reload()
    page.wait_for_selector("#composer-input")
    context.close()
    second_context = browser.new_context(locale="en-GB")
    page = second_context.new_page()
    page.goto(site.sign_in)
    page.get_by_text("was already used").wait_for()
    page.get_by_label("Access key").fill(site.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#composer-input")
    page.get_by_role("button", name="Preferences").click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.get_by_label("Access key").wait_for()
    second_context.close()


def test_link_pasted_into_the_sign_in_page_is_redeemed(browser: Browser, site: Site) -> None:
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(site.url)
    page.get_by_label("Access key").fill("empu-wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("unknown").wait_for()
    page.goto(f"{site.url}/#code=no-such-code")  # only the hash changes, so the page is not reloaded
    page.get_by_text("was already used").wait_for()
    assert page.get_by_text("unknown").count() == 0
    assert "code" not in page.url
    context.close()


def test_draft_stays_with_its_conversation(page: Page, site: Site) -> None:
    open_conversation(page, site, site.write_conversation("Here."))
    page.locator("#composer-input").fill("half a thought")
    page.get_by_role("button", name="New conversation").click()
    page.locator(".greeting").wait_for()
    assert page.locator("#composer-input").input_value() == ""
    page.go_back()
    page.locator(FINISHED_ANSWER).wait_for()
    assert page.locator("#composer-input").input_value() == "half a thought"


def test_interrupted_answer_stays_and_can_be_retried(page: Page) -> None:
    select_model(page, "smol")
    change_settings(page, Temperature="0")
    send(page, LONG)
    page.locator(".streaming .markdown").get_by_text(re.compile(r"\w+ \w+ \w+")).first.wait_for()
    page.context.set_offline(True)
    page.route("**/api/**", lambda route: route.abort())
    # Going offline keeps open connections; stopping the window closes them.
    page.evaluate("window.stop()")
    page.get_by_text("interrupted").wait_for()
    assert page.get_by_text(LONG).last.is_visible()
    page.unroute("**/api/**")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    page.locator(".streaming").wait_for()
    assert page.locator("#composer-input").input_value() == ""
    page.keyboard.press("Escape")
    page.locator(FINISHED_ANSWER).wait_for()


def test_other_errors_show_in_a_toast(context: BrowserContext, site: Site) -> None:
    page = context.new_page()  # not monitored: the browser itself reports lost requests
    open_conversation(page, site, site.write_conversation("Here."))
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("button", name="Good answer").click()
    page.locator(".toast").get_by_text("cannot be reached").wait_for()
    page.locator(".toast button").click()
    page.get_by_label("Search conversations").fill("anything")
    page.locator(".toast").wait_for()
    page.unroute("**/api/**")


def test_invalid_settings_are_marked(page: Page) -> None:
    select_model(page, "colours")
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("no sampling settings").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("no sampling settings").wait_for(state="detached")
    select_model(page, "smol")
    page.get_by_role("button", name="Settings").click()
    max_tokens = page.get_by_label("Maximum tokens")
    assert max_tokens.get_attribute("max") == "8192"
    max_tokens.fill("0")
    page.get_by_role("alert").get_by_text("Enter a whole number from 1").wait_for()
    assert max_tokens.get_attribute("aria-invalid") == "true"
    max_tokens.fill("64")
    page.get_by_text("Enter a whole number from 1").wait_for(state="detached")


def test_conversation_from_question_to_deletion(page: Page, tmp_path: Path) -> None:
    select_model(page, "smol")
    change_settings(page, Temperature="0")
    answer = ask(page, QUESTION)
    assert "Jakarta" in answer.inner_text()
    stats = answer.locator(".answer-stats").inner_text()
    assert re.search(r"smol · \d+ tokens · \d+ tokens/s · first token after [\d.]+ m?s · \d+ prompt tokens", stats)
    text = answer.locator(".markdown").inner_text()
    page.reload()
    page.locator(FINISHED_ANSWER).wait_for()
    assert page.locator(f"{FINISHED_ANSWER} .markdown").inner_text() == text
    assert page.title() == f"{QUESTION} · Empu"

    page.get_by_label("Search conversations").fill("JAKARTA")
    page.locator(".conversation-list .snippet").first.wait_for()
    assert page.locator(".conversation-list li").count() == 1
    page.get_by_role("button", name="More:").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("Title").fill("The capital")
    page.get_by_role("button", name="Save").click()
    page.locator(".conversation-list .title", has_text="The capital").wait_for()

    page.get_by_role("button", name="More:").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export").click()
    download.value.save_as(tmp_path / "conversation.json")
    (conversation,) = json.loads((tmp_path / "conversation.json").read_text())["conversations"]
    assert conversation["title"] == "The capital"
    assert [message["role"] for message in conversation["messages"]] == ["user", "assistant"]

    page.get_by_role("button", name="More:").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No conversations found").wait_for()
    page.locator(".greeting").wait_for()


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stopped_answer_keeps_its_text(page: Page, how: str) -> None:
    select_model(page, "smol")
    change_settings(page, Temperature="0")
    send(page, LONG)
    page.locator(".streaming .markdown").wait_for()
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    answer = page.locator(FINISHED_ANSWER)
    answer.wait_for()
    assert "stopped" in answer.locator(".answer-stats").inner_text()
    assert answer.locator(".markdown").inner_text()
    assert ask(page, QUESTION).locator(".markdown").inner_text()


def test_reload_during_an_answer_keeps_its_text(page: Page) -> None:
    select_model(page, "smol")
    change_settings(page, Temperature="0")
    send(page, LONG)
    page.locator(".streaming .markdown").wait_for()
    page.reload()
    answer = page.locator(FINISHED_ANSWER)
    answer.wait_for()
    assert "stopped" in answer.locator(".answer-stats").inner_text()
    assert answer.locator(".markdown").inner_text()


def test_regenerated_answers_and_edited_questions_are_versions(page: Page) -> None:
    select_model(page, "smol")
    change_settings(page, Temperature="0")
    ask(page, "Name one colour.")
    page.get_by_role("button", name="Regenerate answer").click()
    page.locator(".answer .versions", has_text="2 of 2").wait_for()
    page.get_by_role("button", name="Previous version").click()
    page.locator(".answer .versions", has_text="1 of 2").wait_for()
    page.locator(".question").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit your question").fill(QUESTION)
    page.keyboard.press("Enter")
    page.locator(".question .versions", has_text="2 of 2").wait_for()
    page.locator(FINISHED_ANSWER).wait_for()
    assert "Jakarta" in page.locator(FINISHED_ANSWER).inner_text()
    page.locator(".question").get_by_role("button", name="Previous version").click()
    page.locator(".bubble", has_text="Name one colour.").wait_for()
    page.reload()
    page.locator(".bubble", has_text="Name one colour.").wait_for()


def test_selected_specialist_answers_with_a_label(page: Page) -> None:
    select_model(page, "colours")
    page.get_by_text("The model assigns one of 2 labels").wait_for()
    page.locator(".examples button").first.wait_for()
    answer = ask(page, "blue parcel1 late2 order3")
    assert answer.locator(".predicted-label strong").inner_text() in {"red", "blue"}
    assert re.search(r"\d+\.\d % confidence", answer.locator(".predicted-label").inner_text())
    assert re.search(r"\d+\.\d %", answer.locator(".label-answer li").first.inner_text())
    assert answer.get_by_role("button", name="Regenerate answer").count() == 0
    select_model(page, "smol")
    change_settings(page, Temperature="0")
    assert "Jakarta" in ask(page, QUESTION).inner_text()
    page.reload()
    page.locator(FINISHED_ANSWER).nth(1).wait_for()
    page.locator("#model-select", has_text="smol").wait_for()


def test_settings_apply_to_the_conversation(page: Page) -> None:
    select_model(page, "smol")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Always answer with the word banana.")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Maximum tokens").fill("5")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Seed").blur()
    page.keyboard.press("Escape")
    answer = ask(page, LONG)
    assert "5 tokens" in answer.locator(".answer-stats").inner_text()
    assert "cut off at the token limit" in answer.locator(".answer-stats").inner_text()
    page.get_by_role("button", name="Regenerate answer").click()
    page.locator(".answer .versions", has_text="2 of 2").wait_for()
    second = page.locator(f"{FINISHED_ANSWER} .markdown").inner_text()
    page.get_by_role("button", name="Previous version").click()
    page.locator(".answer .versions", has_text="1 of 2").wait_for()
    assert page.locator(f"{FINISHED_ANSWER} .markdown").inner_text() == second
    page.reload()
    page.locator(FINISHED_ANSWER).wait_for()
    page.get_by_role("button", name="Settings").click()
    assert page.get_by_label("System prompt").input_value() == "Always answer with the word banana."


def test_failed_question_returns_to_the_message_field(page: Page) -> None:
    select_model(page, "colours")
    text = "red " * 2000
    page.fill("#composer-input", text)
    page.keyboard.press("Enter")
    page.locator(".failure").get_by_text("tokens").wait_for()
    assert page.locator("#composer-input").input_value().strip() == text.strip()
    with page.expect_response("**/answers"):
        page.get_by_role("button", name="Try again").click()
    page.locator(".failure").get_by_text("tokens").wait_for()
    assert page.locator("#composer-input").input_value().strip() == text.strip()


def test_keyboard_shortcuts(page: Page) -> None:
    select_model(page, "smol")
    page.locator("#model-select").press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.locator("#model-select").press("/")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    page.locator(FINISHED_ANSWER).wait_for()
    page.keyboard.press("Alt+r")
    page.locator(".answer .versions", has_text="2 of 2").wait_for()
    page.keyboard.press("ArrowUp")
    page.get_by_label("Edit your question").wait_for()
    assert page.get_by_label("Edit your question").input_value() == QUESTION
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("capital")
    page.locator(".conversation-list .snippet").first.wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+O")
    page.locator(".greeting").wait_for()
    page.keyboard.type("still in the field")
    assert page.locator("#composer-input").input_value() == "still in the field"
