"""Conversations are kept as a tree, found again, and gone when they are deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.chat.conversations import Conversations
from empu.errors import StoreError, UsageError


@pytest.fixture
def kept(tmp_path: Path) -> Conversations:
    return Conversations(tmp_path / "home")


def test_a_conversation_outlives_its_process(kept: Conversations) -> None:
    heading = kept.begin("ana", "tiny", {"temperature": 0})
    question = kept.add("ana", heading.id, None, "user", "How do I  reset\nmy meter?")
    answer = kept.add("ana", heading.id, question.id, "assistant", "Hold the button.", {"completion_tokens": 4})
    kept.close()
    assert kept.path.stat().st_mode & 0o777 == 0o600
    again = Conversations(kept.path.parent)
    found = again.heading("ana", heading.id)
    assert (found.title, found.leaf, found.settings) == ("How do I reset my meter?", answer.id, {"temperature": 0})
    assert again.messages("ana", heading.id) == [question, answer]
    assert again.path_to("ana", heading.id, answer.id) == [question, answer]


def test_another_answer_and_an_edited_question_are_siblings(kept: Conversations) -> None:
    talk = kept.begin("ana", "tiny", {}).id
    asked = kept.add("ana", talk, None, "user", "one")
    first = kept.add("ana", talk, asked.id, "assistant", "first")
    second = kept.add("ana", talk, asked.id, "assistant", "second")
    edited = kept.add("ana", talk, None, "user", "two")
    assert [m.content for m in kept.path_to("ana", talk, second.id)] == ["one", "second"]
    assert kept.heading("ana", talk).leaf == edited.id
    assert kept.change("ana", talk, leaf=first.id).leaf == first.id
    assert len(kept.messages("ana", talk)) == 4
    other = kept.begin("ana", "tiny", {}).id
    with pytest.raises(UsageError, match="no message"):
        kept.add("ana", other, first.id, "user", "x")
    with pytest.raises(UsageError, match="no message"):
        kept.change("ana", other, leaf=first.id)
    with pytest.raises(UsageError, match="no message"):
        kept.path_to("ana", other, first.id)


def test_search_finds_titles_and_messages_without_regard_to_capitals(kept: Conversations) -> None:
    for words in ("Straße nach Ubud", "100%_sure", "Tagihan listrik", "nothing"):
        talk = kept.begin("ana", "tiny", {}).id
        asked = kept.add("ana", talk, None, "user", words)
        kept.add("ana", talk, asked.id, "assistant", f"An answer {'x ' * 40} about {words} here.")
    found, more = kept.headings("ana", search="STRASSE")
    assert [one.title for one in found] == ["Straße nach Ubud"]
    assert not more
    assert [one.title for one in kept.headings("ana", search="%_S")[0]] == ["100%_sure"]
    assert kept.headings("ana", search="absent")[0] == []
    (renamed,) = kept.headings("ana", search="listrik")[0]
    kept.change("ana", renamed.id, title="Meteran")
    assert [one.id for one in kept.headings("ana", search="meteran")[0]] == [renamed.id]
    assert str(kept.headings("ana", search="tagihan")[0][0].found).startswith("Tagihan")
    talk = kept.begin("ana", "tiny", {}, "Letter").id
    kept.add("ana", talk, None, "user", "All that came about before, and then the invoice that nobody paid.")
    piece = str(kept.headings("ana", search="INVOICE")[0][0].found)
    assert piece.startswith("…and then the invoice that"), "what was found stands where a narrow list shows it"


def test_pages_of_headings_hold_each_conversation_once(kept: Conversations) -> None:
    made = [kept.begin("ana", "tiny", {}, f"{i}").id for i in range(7)]
    seen: list[str] = []
    before, more = None, True
    while more:
        page, more = kept.headings("ana", before=before, limit=3)
        seen += [one.id for one in page]
        before = page[-1].updated_at
    assert seen == made[::-1]


def test_nobody_sees_or_changes_what_belongs_to_another(kept: Conversations) -> None:
    talk = kept.begin("ana", "tiny", {}).id
    asked = kept.add("ana", talk, None, "user", "secret")
    answer = kept.add("ana", talk, asked.id, "assistant", "yes")
    assert kept.headings("budi", search="secret") == ([], False)
    for attempt in (
        lambda: kept.messages("budi", talk),
        lambda: kept.change("budi", talk, title="mine"),
        lambda: kept.delete("budi", talk),
        lambda: kept.add("budi", talk, None, "user", "x"),
        lambda: kept.judge("budi", answer.id, "up", None),
    ):
        with pytest.raises(UsageError, match="There is no"):
            attempt()
    assert kept.delete("budi") == 0
    assert len(kept.messages("ana", talk)) == 2


def test_what_is_deleted_is_not_in_the_file_any_more(kept: Conversations) -> None:
    planted = "zebra-in-the-snow-4711"
    talk = kept.begin("ana", "tiny", {"system": planted}).id
    asked = kept.add("ana", talk, None, "user", planted)
    answer = kept.add("ana", talk, asked.id, "assistant", planted)
    kept.judge("ana", answer.id, "down", planted)
    other = kept.begin("ana", "tiny", {}, "Meters").id
    assert planted.encode() in kept.path.read_bytes()
    assert kept.delete("ana", talk) == 1
    assert planted.encode() not in kept.path.read_bytes()
    assert [one.id for one in kept.headings("ana")[0]] == [other]
    assert kept.judged("ana") == []
    assert kept.delete("ana") == 1


def test_only_answers_are_judged_and_a_judgement_can_be_taken_back(kept: Conversations) -> None:
    talk = kept.begin("ana", "tiny", {}).id
    asked = kept.add("ana", talk, None, "user", "one")
    answer = kept.add("ana", talk, asked.id, "assistant", "first")
    with pytest.raises(UsageError, match="no answer"):
        kept.judge("ana", asked.id, "up", None)
    assert kept.judge("ana", answer.id, "up", None).verdict == "up"
    judged = kept.judge("ana", answer.id, "down", "better")
    assert (judged.verdict, judged.correction) == ("down", "better")
    assert [(heading.id, message) for heading, message in kept.judged("ana")] == [(talk, judged)]
    kept.judge("ana", answer.id, None, None)
    assert kept.judged("ana") == []


def test_a_damaged_file_is_said_in_a_sentence(kept: Conversations) -> None:
    kept.path.parent.mkdir()
    kept.path.write_bytes(b"no database at all, and long enough to be read" * 40)
    with pytest.raises(StoreError, match=r"conversations\.db cannot be used"):
        kept.headings("ana")


def test_what_nobody_could_ask_is_not_listed_and_gone_after_a_day(kept: Conversations) -> None:
    empty, named = kept.begin("ana", "tiny", {}).id, kept.begin("ana", "tiny", {}, "Meters").id
    assert [one.id for one in kept.headings("ana")[0]] == [named]
    kept.close()
    assert kept.heading("ana", empty).leaf is None
    with kept.using() as db:
        db.execute("UPDATE conversation SET updated_at = '2020-01-01T00:00:00.000000+00:00'")
    kept.close()
    assert kept.heading("ana", named).title == "Meters"
    with pytest.raises(UsageError, match="no conversation"):
        kept.heading("ana", empty)
