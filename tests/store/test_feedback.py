"""What people thought of answers becomes rows that the readers of ``empu tune`` take as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.chat import feedback
from empu.chat.conversations import Conversations, Message
from empu.data.reader import read_rows
from empu.data.rows import Kind


class Talk:
    """One conversation to write in."""

    def __init__(self, kept: Conversations, **settings: object) -> None:
        self.kept = kept
        self.id = kept.begin("ana", "tiny", settings).id
        self.last: int | None = None

    def ask(self, question: str, answer: str, **facts: object) -> Message:
        self.last = self.kept.add("ana", self.id, self.last, "user", question).id
        return self.again(answer, **facts)

    def again(self, answer: str, **facts: object) -> Message:
        parent = self.last
        if parent is not None and self.kept.path_to("ana", self.id, parent)[-1].role == "assistant":
            parent = self.kept.path_to("ana", self.id, parent)[-1].parent
        made = self.kept.add("ana", self.id, parent, "assistant", answer, facts)
        self.last = made.id
        return made

    def judge(self, message: Message, verdict: str | None, correction: str | None = None) -> None:
        self.kept.judge("ana", message.id, verdict, correction)


@pytest.fixture
def kept(tmp_path: Path) -> Conversations:
    return Conversations(tmp_path)


def said(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def test_good_and_corrected_answers_become_dialogues(kept: Conversations) -> None:
    talk = Talk(kept, system="Be kind.")
    talk.judge(talk.ask("a?", "A."), "up")
    talk.judge(talk.ask("b?", "wrong"), "down", "B.")
    talk.judge(talk.ask("c?", "C."), "up")
    found = feedback.rows(kept, "ana")
    system = [{"role": "system", "content": "Be kind."}]
    assert found["messages"] == [{"messages": system + said("a?", "A.", "b?", "B.", "c?", "C.")}]
    assert found["preferences"] == [
        {"chosen": system + said("a?", "A.", "b?", "B."), "rejected": system + said("a?", "A.", "b?", "wrong")}
    ]
    assert found["labels"] == []
    assert feedback.rows(kept, "budi") == {"labels": [], "messages": [], "preferences": []}


def test_a_bad_answer_teaches_only_beside_a_better_one(kept: Conversations) -> None:
    talk = Talk(kept)
    bad = talk.ask("a?", "no")
    talk.judge(bad, "down")
    talk.judge(talk.ask("and?", "so"), "up")  # behind a bad answer
    assert not any(feedback.rows(kept, "ana").values())
    talk.last = bad.id
    talk.judge(talk.again("yes"), "up")
    found = feedback.rows(kept, "ana")
    assert found["messages"] == [{"messages": said("a?", "yes")}]
    assert found["preferences"] == [{"chosen": said("a?", "yes"), "rejected": said("a?", "no")}]


def test_labels_become_labelled_rows(kept: Conversations) -> None:
    talk = Talk(kept)
    talk.judge(talk.ask("where is it", "delivery", confidence=0.9), "up")
    talk.judge(talk.ask("pay", "sales", confidence=0.4), "down", "billing")
    talk.judge(talk.ask("hm", "sales", confidence=0.4), "down")
    assert feedback.rows(kept, "ana")["labels"] == [
        {"text": "where is it", "label": "delivery"},
        {"text": "pay", "label": "billing"},
    ]


@pytest.mark.parametrize(
    ("kind", "read_as"),
    [("labels", Kind.LABEL), ("messages", Kind.MESSAGES), ("preferences", Kind.PREFERENCE)],
)
def test_tuning_reads_what_is_saved(kept: Conversations, tmp_path: Path, kind: str, read_as: Kind) -> None:
    for i in range(4):
        talk = Talk(kept)
        talk.judge(talk.ask(f"Question {i}?", f"Answer\n{i}"), "down", f"Better “{i}”")
        talk.judge(talk.ask(f"Text {i}", "one", confidence=0.5), "down", f"label {i % 2}")
    found = feedback.rows(kept, "ana")[kind]
    path = feedback.save(tmp_path, "ana/../x", kind, found)
    assert path.parent == tmp_path / "data" / "feedback"
    reading = read_rows(path)
    assert reading.kind is read_as
    rows = list(reading.rows())
    assert len(rows) == len(found) == 4
    assert [dict(row.fields) for row in rows] == found
