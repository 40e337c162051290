"""The pages of models, tuning runs and feedback."""

from __future__ import annotations

import json
import random
import re
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.actions import ask, select_model
from tests.browser.conftest import Site
from tests.specialist.samples import labelled_csv, random_sentence
from tests.specialist.workspace import RECIPE_OPTIONS

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_model_card_shows_scores_rows_and_licences(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    page.get_by_role("heading", name="Base models").wait_for()
    page.get_by_role("link", name="colours", exact=True).click()
    page.get_by_role("heading", name="colours").wait_for()
    page.locator("header", has_text="tuned from tiny").wait_for()
    chart = page.locator("section", has=page.get_by_role("heading", name="Scores"))
    chart.get_by_text("TF-IDF").first.wait_for()
    assert re.search(r"\d+(\.\d)? %", chart.inner_text())
    rows = page.locator("section", has=page.get_by_role("heading", name="Data and licences"))
    rows.get_by_text("rows.csv").first.wait_for()
    assert re.search(r"rows\.csv\s+sha256:[0-9a-f]{16}…\s+CC0-1\.0", rows.inner_text())
    rows.get_by_text("Browse rows").click()
    rows.get_by_text("parcel").or_(rows.get_by_text("please")).first.wait_for()
    training_rows = rows.locator("details").inner_text()
    rows.get_by_text(re.compile(r"1–\d+ of \d+")).wait_for()
    rows.get_by_role("button", name="Test", exact=True).click()
    page.wait_for_function(
        "(before) => document.querySelector('details[open]').innerText !== before", arg=training_rows
    )
    assert "sha256:" in page.locator("section", has=page.get_by_role("heading", name="Model details")).inner_text()
    curve = page.locator("figure.chart", has=page.locator("path.train"))
    reading = curve.locator("output").inner_text()
    assert re.fullmatch(r"\d+\.\d+ after step \d+", reading)
    curve.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    assert curve.locator("output").inner_text().endswith(" after step 1")


def test_specialist_can_be_tried_on_its_card(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/#/models/colours")
    page.get_by_label("Text or question").fill("blue parcel1 late2 order3")
    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.locator(".try-answer")
    answer.wait_for()
    assert answer.locator("strong").first.inner_text() in {"red", "blue"}
    assert "confidence" in answer.inner_text()
    page.get_by_role("link", name="Chat", exact=True).click()
    page.locator("#composer-input").wait_for()
    page.locator("#model-select", has_text="colours").wait_for()
    assert page.locator("#composer-input").input_value() == ""


def test_missing_models_and_conversations_have_messages(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/#/models/nobody")
    page.get_by_text("There is no model with this name.").wait_for()
    page.goto(f"{site.url}/#/c/0123456789abcdef")
    page.get_by_text("This conversation no longer exists.").wait_for()


def test_run_page_while_running_and_after_interruption(page: Page, site: Site) -> None:
    workspace = site.workspace
    (workspace.folder / "more.csv").write_text(labelled_csv(400, seed=5))
    slow = (*RECIPE_OPTIONS, "--epochs", "1000", "--learning-rate", "0.00001", "--no-compare")
    process = workspace.start("tune", "more.csv", "--name", "more", *slow)
    try:
        page.get_by_role("link", name="Tuning runs").click()
        page.get_by_role("link", name="more", exact=True).click()
        page.get_by_text("running").first.wait_for()
        page.locator("path.train[d^=M]").wait_for()
        assert re.search(r"more\.csv: \d+ training rows", page.locator("main").inner_text())
        assert process.poll() is None
        before = page.locator("progress").get_attribute("value")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        page.get_by_text("resume with:").wait_for()
        command = page.locator(".command code").inner_text()
        assert command.startswith(f"cd {workspace.folder} && empu tune more.csv --name more ")
        after = page.locator("progress").get_attribute("value")
        assert before is not None
        assert after is not None
        assert float(after) >= float(before) > 0
    finally:
        process.kill()
        process.communicate()


def test_feedback_becomes_rows_for_tuning(page: Page, site: Site) -> None:
    store = site.conversations()
    rng = random.Random(3)
    for i in range(40):
        conversation = store.create("first", "colours", {}, "Judged")
        question = store.add_message(
            "first", conversation.id, None, "user", random_sentence(rng, ("red", "blue")[i % 2])
        )
        facts = {"model": "colours", "confidence": 0.9}
        stored = store.add_message("first", conversation.id, question.id, "assistant", ("red", "blue")[i % 2], facts)
        store.set_feedback("first", stored.id, "up", None)
    store.close()
    select_model(page, "colours")
    answer = ask(page, "blue parcel1 late2 order3")
    answer.get_by_role("button", name="Good answer").click()
    page.locator("button[aria-pressed=true][aria-label='Good answer']").wait_for()
    wrong = ask(page, "red parcel3 late4 order5")
    wrong.get_by_role("button", name="Correct this answer").click()
    page.get_by_label("Correct label").locator("option").nth(1).wait_for(state="attached")
    assert set(page.get_by_label("Correct label").locator("option").all_inner_texts()) == {"red", "blue"}
    page.get_by_role("button", name="Another label").click()
    page.get_by_label("Correct label").fill("green")
    page.get_by_role("button", name="Save").click()
    wrong.locator(".correction", has_text="green").wait_for()
    page.reload()
    page.locator(".correction", has_text="green").wait_for()
    assert page.locator("button[aria-pressed=true][aria-label='Good answer']").count() == 1
    right = ask(page, "red parcel9 late9 order9")
    right.get_by_role("button", name="Correct this answer").click()
    page.get_by_role("dialog", name="Which label is correct?").wait_for()
    page.get_by_label("Correct label").locator("option").nth(1).wait_for(state="attached")
    page.get_by_role("button", name="Save").click()  # the same label
    right.locator("button[aria-pressed=true][aria-label='Good answer']").wait_for()
    assert right.locator(".correction").count() == 0

    page.get_by_role("link", name="Feedback").click()
    page.get_by_role("heading", name="Feedback").wait_for()
    page.locator(".feedback-list li", has_text="green").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").first.click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert {"text": "red parcel3 late4 order5", "label": "green"} in rows
    page.get_by_role("button", name="Save to the store").first.click()
    command = page.locator(".saved-rows code").inner_text()
    arguments = shlex.split(command)
    assert arguments[:2] == ["empu", "tune"]
    assert site.workspace.json(*arguments[1:], "--base", "tiny", "--plan")["rows"]


def test_feedback_is_deleted_with_its_conversation(page: Page) -> None:
    select_model(page, "colours")
    answer = ask(page, "blue whatever9 order9")
    answer.get_by_role("button", name="Bad answer").click()
    page.locator("button[aria-pressed=true][aria-label='Bad answer']").wait_for()
    page.get_by_role("link", name="Feedback").click()
    page.locator(".feedback-list a", has_text="blue whatever9 order9").click()
    page.locator("button[aria-pressed=true][aria-label='Bad answer']").wait_for()
    page.get_by_role("button", name="Preferences").click()
    page.get_by_role("menuitem", name="Delete all conversations").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    page.get_by_text("Conversations started with the key “first” appear here").wait_for()
    page.get_by_role("link", name="Feedback").click()
    page.get_by_role("heading", name="Feedback").wait_for()
    page.locator(".feedback-counts li").first.wait_for()
    assert page.locator(".feedback-list li").count() == 0
