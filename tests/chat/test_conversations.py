"""Conversations are stored as trees, searchable, and erased when deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.chat.conversations import ConversationStore
from empu.errors import StoreError, UsageError


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    return ConversationStore(tmp_path / "home")


def test_conversation_survives_reopening(store: ConversationStore) -> None:
    conversation = store.create("ana", "tiny", {"temperature": 0})
    question = store.add_message("ana", conversation.id, None, "user", "How do I  reset\nmy meter?")
    answer = store.add_message(
        "ana", conversation.id, question.id, "assistant", "Hold the button.", {"completion_tokens": 4}
    )
    store.close()
    assert store.path.stat().st_mode & 0o777 == 0o600
    reopened = ConversationStore(store.path.parent)
    stored = reopened.get("ana", conversation.id)
    assert (stored.title, stored.leaf, stored.settings) == ("How do I reset my meter?", answer.id, {"temperature": 0})
    assert reopened.messages("ana", conversation.id) == [question, answer]
    assert reopened.path_to("ana", conversation.id, answer.id) == [question, answer]


def test_second_answer_and_edited_question_are_siblings(store: ConversationStore) -> None:
    conversation = store.create("ana", "tiny", {}).id
    question = store.add_message("ana", conversation, None, "user", "one")
    first = store.add_message("ana", conversation, question.id, "assistant", "first")
    second = store.add_message("ana", conversation, question.id, "assistant", "second")
    edited = store.add_message("ana", conversation, None, "user", "two")
    assert [message.content for message in store.path_to("ana", conversation, second.id)] == ["one", "second"]
    assert store.get("ana", conversation).leaf == edited.id
    assert store.update("ana", conversation, leaf=first.id).leaf == first.id
    assert len(store.messages("ana", conversation)) == 4
    other = store.create("ana", "tiny", {}).id
    with pytest.raises(UsageError, match="no message"):
        store.add_message("ana", other, first.id, "user", "x")
    with pytest.raises(UsageError, match="no message"):
        store.update("ana", other, leaf=first.id)
    with pytest.raises(UsageError, match="no message"):
        store.path_to("ana", other, first.id)


def test_search_matches_titles_and_messages_without_regard_to_case(store: ConversationStore) -> None:
    for text in ("Straße nach Ubud", "100%_sure", "Tagihan listrik", "nothing"):
        conversation = store.create("ana", "tiny", {}).id
        question = store.add_message("ana", conversation, None, "user", text)
        store.add_message("ana", conversation, question.id, "assistant", f"An answer {'x ' * 40} about {text} here.")
    matches, has_more = store.list_conversations("ana", search="STRASSE")
    assert [match.title for match in matches] == ["Straße nach Ubud"]
    assert not has_more
    assert [match.title for match in store.list_conversations("ana", search="%_S")[0]] == ["100%_sure"]
    assert store.list_conversations("ana", search="absent")[0] == []
    (renamed,) = store.list_conversations("ana", search="listrik")[0]
    store.update("ana", renamed.id, title="Meteran")
    assert [match.id for match in store.list_conversations("ana", search="meteran")[0]] == [renamed.id]
    assert str(store.list_conversations("ana", search="tagihan")[0][0].snippet).startswith("Tagihan")
    conversation = store.create("ana", "tiny", {}, "Letter").id
    store.add_message(
        "ana", conversation, None, "user", "All that came about before, and then the invoice that nobody paid."
    )
    snippet = str(store.list_conversations("ana", search="INVOICE")[0][0].snippet)
    assert snippet.startswith("…and then the invoice that"), "the match is visible in a narrow list"


def test_pages_contain_each_conversation_once(store: ConversationStore) -> None:
    created = [store.create("ana", "tiny", {}, f"{i}").id for i in range(7)]
    seen: list[str] = []
    before, has_more = None, True
    while has_more:
        page, has_more = store.list_conversations("ana", before=before, limit=3)
        seen += [item.id for item in page]
        before = page[-1].updated_at
    assert seen == created[::-1]


def test_owners_cannot_see_or_change_each_others_conversations(store: ConversationStore) -> None:
    conversation = store.create("ana", "tiny", {}).id
    question = store.add_message("ana", conversation, None, "user", "secret")
    answer = store.add_message("ana", conversation, question.id, "assistant", "yes")
    assert store.list_conversations("budi", search="secret") == ([], False)
    for attempt in (
        lambda: store.messages("budi", conversation),
        lambda: store.update("budi", conversation, title="mine"),
        lambda: store.delete("budi", conversation),
        lambda: store.add_message("budi", conversation, None, "user", "x"),
        lambda: store.set_feedback("budi", answer.id, "up", None),
    ):
        with pytest.raises(UsageError, match="There is no"):
            attempt()
    assert store.delete("budi") == 0
    assert len(store.messages("ana", conversation)) == 2


def test_deleted_text_is_erased_from_the_file(store: ConversationStore) -> None:
    secret = "zebra-in-the-snow-4711"
    conversation = store.create("ana", "tiny", {"system": secret}).id
    question = store.add_message("ana", conversation, None, "user", secret)
    answer = store.add_message("ana", conversation, question.id, "assistant", secret)
    store.set_feedback("ana", answer.id, "down", secret)
    other = store.create("ana", "tiny", {}, "Meters").id
    assert secret.encode() in store.path.read_bytes()
    assert store.delete("ana", conversation) == 1
    assert secret.encode() not in store.path.read_bytes()
    assert [match.id for match in store.list_conversations("ana")[0]] == [other]
    assert store.rated_messages("ana") == []
    assert store.delete("ana") == 1


def test_only_answers_get_feedback_and_feedback_can_be_removed(store: ConversationStore) -> None:
    conversation = store.create("ana", "tiny", {}).id
    question = store.add_message("ana", conversation, None, "user", "one")
    answer = store.add_message("ana", conversation, question.id, "assistant", "first")
    with pytest.raises(UsageError, match="no answer"):
        store.set_feedback("ana", question.id, "up", None)
    assert store.set_feedback("ana", answer.id, "up", None).verdict == "up"
    rated = store.set_feedback("ana", answer.id, "down", "better")
    assert (rated.verdict, rated.correction) == ("down", "better")
    assert [(item.id, message) for item, message in store.rated_messages("ana")] == [(conversation, rated)]
    store.set_feedback("ana", answer.id, None, None)
    assert store.rated_messages("ana") == []


def test_damaged_file_raises_store_error(store: ConversationStore) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database, and long enough to be read" * 40)
    with pytest.raises(StoreError, match=r"conversations\.db cannot be used"):
        store.list_conversations("ana")


def test_empty_conversation_is_not_listed_and_deleted_after_a_day(store: ConversationStore) -> None:
    empty, named = store.create("ana", "tiny", {}).id, store.create("ana", "tiny", {}, "Meters").id
    assert [match.id for match in store.list_conversations("ana")[0]] == [named]
    store.close()
    assert store.get("ana", empty).leaf is None
    with store.transaction() as db:
        db.execute("UPDATE conversation SET updated_at = '2020-01-01T00:00:00.000000+00:00'")
    store.close()
    assert store.get("ana", named).title == "Meters"
    with pytest.raises(UsageError, match="no conversation"):
        store.get("ana", empty)
