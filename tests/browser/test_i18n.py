"""English and Indonesian texts."""

from __future__ import annotations

import re

from tests.browser.actions import OpenPage, ask, open_conversation, select_model
from tests.browser.conftest import ROOT, Site

I18N = ROOT / "web" / "src" / "i18n"
SAME_IN_BOTH_LANGUAGES = {"model", "epoch"}


def test_page_in_indonesian(open_page: OpenPage, site: Site, markdown_conversation: str) -> None:
    page = open_page(locale="id-ID")
    page.get_by_placeholder("Tanyakan apa saja").wait_for()
    assert page.locator("html").get_attribute("lang") == "id"
    select_model(page, "colours")
    answer = ask(page, "blue parcel1 late2 order3")
    assert "token" in answer.locator(".answer-stats").inner_text()
    assert "," in answer.locator(".predicted-label").inner_text(), "a decimal comma"
    open_conversation(page, site, markdown_conversation)
    english = {"Copy answer", "Regenerate answer", "Good answer", "Settings", "Send", "Search conversations"}
    labels = page.evaluate("() => [...document.querySelectorAll('[aria-label]')].map((element) => element.ariaLabel)")
    assert len(labels) > 8
    assert not english & set(labels)
    for path, title in (("/models", "Model"), ("/runs", "Pelatihan"), ("/feedback", "Umpan balik")):
        page.goto(f"{site.url}/#{path}")
        page.get_by_role("heading", name=title, level=1).wait_for()
    page.get_by_role("button", name="Preferensi").click()
    page.get_by_role("menuitemradio", name="English").click()
    page.get_by_role("heading", name="Feedback", level=1).wait_for()
    page.reload()
    page.get_by_role("heading", name="Feedback", level=1).wait_for()
    assert page.locator("html").get_attribute("lang") == "en"


def messages(language: str) -> dict[str, str]:
    text = (I18N / f"{language}.ts").read_text(encoding="utf-8")
    return dict(re.findall(r"^  (\w+):\s+\"(.*)\",$", text, re.MULTILINE))


def test_messages_are_translated() -> None:
    english, indonesian = messages("en"), messages("id")
    assert len(english) > 200
    assert english.keys() == indonesian.keys()
    for key, text in english.items():
        placeholders = sorted(re.findall(r"\{\d\}", text))
        assert sorted(re.findall(r"\{\d\}", indonesian[key])) == placeholders, key
        assert text != indonesian[key] or not re.search(r"[a-z]{4}", text) or key in SAME_IN_BOTH_LANGUAGES, key


def test_names_that_the_page_translates_are_names_of_the_server() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "empu").rglob("*.py"))
    tables = (I18N / "evaluation.ts").read_text(encoding="utf-8").split("};")[:2]
    names = [name for table in tables for name in re.findall(r"^  \"?([^\":]+)\"?: \"\w+\",$", table, re.MULTILINE)]
    codes = re.findall(r"^  (\w+): \"\w+\",$", (I18N / "error-message.ts").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) == 13
    assert len(codes) == 7
    recorded_before = {"TF-IDF + logistic regression", "frozen embeddings + logistic regression"}  # in old ledgers
    missing = [name for name in names + codes if f'"{name}"' not in source and name not in recorded_before]
    assert not missing
