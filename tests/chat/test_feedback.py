"""Feedback on answers becomes rows that ``empu tune`` reads unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.chat import feedback
from empu.chat.conversations import ChatMessage, ConversationStore
from empu.data.reader import read_rows
from empu.data.rows import Kind


class Dialogue:
    """Writes one conversation."""

    def __init__(self, store: ConversationStore, **settings: object) -> None:
        self.store = store
        self.id = store.create("ana", "tiny", settings).id
        self.last: int | None = None

    def ask(self, question: str, answer: str, **facts: object) -> ChatMessage:
        self.last = self.store.add_message("ana", self.id, self.last, "user", question).id
        return self.answer_again(answer, **facts)

    def answer_again(self, answer: str, **facts: object) -> ChatMessage:
        parent = self.last
        if parent is not None and self.store.path_to("ana", self.id, parent)[-1].role == "assistant":
            parent = self.store.path_to("ana", self.id, parent)[-1].parent
        message = self.store.add_message("ana", self.id, parent, "assistant", answer, facts)
        self.last = message.id
        return message

    def rate(self, message: ChatMessage, verdict: str | None, correction: str | None = None) -> None:
        self.store.set_feedback("ana", message.id, verdict, correction)


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    return ConversationStore(tmp_path)


def messages(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def test_good_and_corrected_answers_become_dialogues(store: ConversationStore) -> None:
    dialogue = Dialogue(store, system="Be kind.")
    dialogue.rate(dialogue.ask("a?", "A."), "up")
    dialogue.rate(dialogue.ask("b?", "wrong"), "down", "B.")
    dialogue.rate(dialogue.ask("c?", "C."), "up")
    rows = feedback.training_rows(store, "ana")
    system = [{"role": "system", "content": "Be kind."}]
    assert rows["messages"] == [{"messages": system + messages("a?", "A.", "b?", "B.", "c?", "C.")}]
    assert rows["preferences"] == [
        {"chosen": system + messages("a?", "A.", "b?", "B."), "rejected": system + messages("a?", "A.", "b?", "wrong")}
    ]
    assert rows["labels"] == []
    assert feedback.training_rows(store, "budi") == {"labels": [], "messages": [], "preferences": []}


def test_bad_answer_is_used_only_with_a_better_one(store: ConversationStore) -> None:
    dialogue = Dialogue(store)
    bad = dialogue.ask("a?", "no")
    dialogue.rate(bad, "down")
    dialogue.rate(dialogue.ask("and?", "so"), "up")  # follows a bad answer
    assert not any(feedback.training_rows(store, "ana").values())
    dialogue.last = bad.id
    dialogue.rate(dialogue.answer_again("yes"), "up")
    rows = feedback.training_rows(store, "ana")
    assert rows["messages"] == [{"messages": messages("a?", "yes")}]
    assert rows["preferences"] == [{"chosen": messages("a?", "yes"), "rejected": messages("a?", "no")}]


def test_labels_become_labelled_rows(store: ConversationStore) -> None:
    dialogue = Dialogue(store)
    dialogue.rate(dialogue.ask("where is it", "delivery", confidence=0.9), "up")
    dialogue.rate(dialogue.ask("pay", "sales", confidence=0.4), "down", "billing")
    dialogue.rate(dialogue.ask("hm", "sales", confidence=0.4), "down")
    assert feedback.training_rows(store, "ana")["labels"] == [
        {"text": "where is it", "label": "delivery"},
        {"text": "pay", "label": "billing"},
    ]


@pytest.mark.parametrize(
    ("kind", "read_as"),
    [("labels", Kind.LABEL), ("messages", Kind.MESSAGES), ("preferences", Kind.PREFERENCE)],
)
def test_tuning_reads_saved_rows(store: ConversationStore, tmp_path: Path, kind: str, read_as: Kind) -> None:
    for i in range(4):
        dialogue = Dialogue(store)
        dialogue.rate(dialogue.ask(f"Question {i}?", f"Answer\n{i}"), "down", f"Better “{i}”")
        dialogue.rate(dialogue.ask(f"Text {i}", "one", confidence=0.5), "down", f"label {i % 2}")
    saved = feedback.training_rows(store, "ana")[kind]
    path = feedback.save_rows(tmp_path, "ana/../x", kind, saved)
    assert path.parent == tmp_path / "data" / "feedback"
    reading = read_rows(path)
    assert reading.kind is read_as
    rows = list(reading.rows())
    assert len(rows) == len(saved) == 4
    assert [dict(row.fields) for row in rows] == saved
