"""The pages of models, runs and feedback."""

from __future__ import annotations

import json
import random
import re
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.conftest import Site
from tests.browser.doing import ask, choose
from tests.specialist.making import labelled, said
from tests.specialist.test_job import RECIPE

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_specialist_has_a_card_with_scores_rows_and_licences(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    page.get_by_role("heading", name="Base models").wait_for()
    page.get_by_role("link", name="colours", exact=True).click()
    page.get_by_role("heading", name="colours").wait_for()
    page.locator("header", has_text="tuned from tiny").wait_for()
    chart = page.locator("section", has=page.get_by_role("heading", name="Scores"))
    chart.get_by_text("TF-IDF").first.wait_for()
    assert re.search(r"\d+(\.\d)? %", chart.inner_text())
    rows = page.locator("section", has=page.get_by_role("heading", name="Rows and licences"))
    rows.get_by_text("rows.csv").first.wait_for()
    assert re.search(r"rows\.csv\s+sha256:[0-9a-f]{16}…\s+CC0-1\.0", rows.inner_text())
    rows.get_by_text("Look at the rows").click()
    rows.get_by_text("parcel").or_(rows.get_by_text("please")).first.wait_for()
    first = rows.locator("details").inner_text()
    rows.get_by_text(re.compile(r"1–\d+ of \d+")).wait_for()
    rows.get_by_role("button", name="test", exact=True).click()
    page.wait_for_function("(old) => document.querySelector('details[open]').innerText !== old", arg=first)
    assert "sha256:" in page.locator("section", has=page.get_by_role("heading", name="What is known")).inner_text()
    curve = page.locator("figure.chart", has=page.locator("path.train"))
    last = curve.locator("output").inner_text()
    assert re.fullmatch(r"\d+\.\d+ after step \d+", last)
    curve.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    assert curve.locator("output").inner_text().endswith(" after step 1")


def test_a_specialist_can_be_tried_on_its_page(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/#/models/colours")
    page.get_by_label("A text or a question").fill("blue parcel1 late2 order3")
    page.get_by_role("button", name="Ask", exact=True).click()
    tried = page.locator(".tried")
    tried.wait_for()
    assert tried.locator("strong").first.inner_text() in {"red", "blue"}
    assert "sure" in tried.inner_text()
    page.get_by_role("link", name="Chat", exact=True).click()
    page.locator("#ask").wait_for()
    page.locator("#model", has_text="colours").wait_for()
    assert page.locator("#ask").input_value() == ""


def test_a_model_that_is_not_there_is_said_to_be_missing(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/#/models/nobody")
    page.get_by_text("There is no model of this name here.").wait_for()
    page.goto(f"{site.url}/#/c/0123456789abcdef")
    page.get_by_text("This conversation is not here any more.").wait_for()


def test_a_run_is_seen_while_it_goes_on_and_after_it_was_stopped(page: Page, site: Site) -> None:
    works = site.works
    (works.folder / "more.csv").write_text(labelled(400, seed=5))
    slow = (*RECIPE, "--epochs", "1000", "--learning-rate", "0.00001", "--no-compare")
    process = works.start("tune", "more.csv", "--name", "more", *slow)
    try:
        page.get_by_role("link", name="Runs").click()
        page.get_by_role("link", name="more", exact=True).click()
        page.get_by_text("running").first.wait_for()
        page.locator("path.train[d^=M]").wait_for()
        assert re.search(r"more\.csv: \d+ training", page.locator("main").inner_text())
        assert process.poll() is None
        before = page.locator("progress").get_attribute("value")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        page.get_by_text("this goes on from here").wait_for()
        command = page.locator(".command code").inner_text()
        assert command.startswith(f"cd {works.folder} && empu tune more.csv --name more ")
        after = page.locator("progress").get_attribute("value")
        assert before is not None
        assert after is not None
        assert float(after) >= float(before) > 0
    finally:
        process.kill()
        process.communicate()


def test_what_is_thought_of_answers_becomes_rows_that_tune_takes(page: Page, site: Site) -> None:
    kept = site.conversations()
    chance = random.Random(3)
    for i in range(40):
        talk = kept.begin("first", "colours", {}, "Judged")
        asked = kept.add("first", talk.id, None, "user", said(chance, ("red", "blue")[i % 2]))
        facts = {"model": "colours", "confidence": 0.9}
        given = kept.add("first", talk.id, asked.id, "assistant", ("red", "blue")[i % 2], facts)
        kept.judge("first", given.id, "up", None)
    kept.close()
    choose(page, "colours")
    answer = ask(page, "blue parcel1 late2 order3")
    answer.get_by_role("button", name="Good answer").click()
    page.locator("button[aria-pressed=true][aria-label='Good answer']").wait_for()
    other = ask(page, "red parcel3 late4 order5")
    other.get_by_role("button", name="Correct this answer").click()
    page.get_by_label("Right label").locator("option").nth(1).wait_for(state="attached")
    assert set(page.get_by_label("Right label").locator("option").all_inner_texts()) == {"red", "blue"}
    page.get_by_role("button", name="Another label").click()
    page.get_by_label("Right label").fill("green")
    page.get_by_role("button", name="Save").click()
    other.locator(".correction", has_text="green").wait_for()
    page.reload()
    page.locator(".correction", has_text="green").wait_for()
    assert page.locator("button[aria-pressed=true][aria-label='Good answer']").count() == 1
    right = ask(page, "red parcel9 late9 order9")
    right.get_by_role("button", name="Correct this answer").click()
    page.get_by_role("dialog", name="Which label is right?").wait_for()
    page.get_by_label("Right label").locator("option").nth(1).wait_for(state="attached")
    page.get_by_role("button", name="Save").click()  # what it said already
    right.locator("button[aria-pressed=true][aria-label='Good answer']").wait_for()
    assert right.locator(".correction").count() == 0

    page.get_by_role("link", name="Feedback").click()
    page.get_by_role("heading", name="Feedback").wait_for()
    page.locator(".judged li", has_text="green").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").first.click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert {"text": "red parcel3 late4 order5", "label": "green"} in rows
    page.get_by_role("button", name="Save in the store").first.click()
    command = page.locator(".saved code").inner_text()
    words = shlex.split(command)
    assert words[:2] == ["empu", "tune"]
    assert site.works.json(*words[1:], "--base", "tiny", "--plan")["rows"]


def test_feedback_goes_with_its_conversation(page: Page) -> None:
    choose(page, "colours")
    answer = ask(page, "blue whatever9 order9")
    answer.get_by_role("button", name="Bad answer").click()
    page.locator("button[aria-pressed=true][aria-label='Bad answer']").wait_for()
    page.get_by_role("link", name="Feedback").click()
    page.locator(".judged a", has_text="blue whatever9 order9").click()
    page.locator("button[aria-pressed=true][aria-label='Bad answer']").wait_for()
    page.get_by_role("button", name="Preferences").click()
    page.get_by_role("menuitem", name="Delete all conversations").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    page.get_by_text("Conversations begun with the key “first” appear here").wait_for()
    page.get_by_role("link", name="Feedback").click()
    page.get_by_role("heading", name="Feedback").wait_for()
    page.locator(".counts li").first.wait_for()
    assert page.locator(".judged li").count() == 0
