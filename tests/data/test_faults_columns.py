"""A column that carries meaning is used, refused by name, or said to be unused with what is lost by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from empu.data.rows import Kind
from empu.errors import UsageError
from tests.data.reading import THINGS, read

PAIRS = [
    {"prompt": f"How do I order the {thing}?", "completion": f"Open the page of the {thing} and press order."}
    for thing in THINGS
]


def with_column(name: str, values: list[Any], rows: list[dict[str, Any]] = PAIRS) -> list[dict[str, Any]]:
    return [row | {name: values[i % len(values)]} for i, row in enumerate(rows)]


def as_messages(row: dict[str, Any]) -> dict[str, Any]:
    turns = [("user", row["prompt"]), ("assistant", row["completion"])]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize("name", ["label", "kto_tag", "is_good", "desirable", "thumbs_up", "Feedback", "rating"])
@pytest.mark.parametrize("values", [[True, False], [1, 0], ["good", "bad"], ["yes", "no"], ["👍", "👎"], [1, -1]])
def test_rows_marked_as_bad_are_not_learnt(tmp_path: Path, name: str, values: list[Any]) -> None:
    for rows in (PAIRS, [as_messages(row) for row in PAIRS]):
        kept, excluded, _ = read(tmp_path / "a.jsonl", with_column(name, values, rows))
        assert (len(kept), len(excluded)) == (6, 6)
        assert {record.category for record in excluded} == {"marked as bad"}


def test_rows_marked_as_bad_in_csv_are_not_learnt(tmp_path: Path) -> None:
    lines = [f"{row['prompt']},{row['completion']},{'FALSE' if i % 2 else 'TRUE'}" for i, row in enumerate(PAIRS)]
    kept, excluded, _ = read(tmp_path / "a.csv", "\n".join(["prompt,completion,label", *lines]))
    assert (len(kept), len(excluded)) == (6, 6)


def test_a_flag_of_another_name_is_said_and_can_be_used(tmp_path: Path) -> None:
    rows = with_column("reviewed_twice", [True, False])
    _, excluded, data = read(tmp_path / "a.jsonl", rows)
    assert not excluded
    assert "reviewed_twice (true in 6 rows and false in 6, which are trained on alike" in data.lines()[0]
    _, excluded, _ = read(tmp_path / "a.jsonl", rows, {"verdict": "reviewed_twice"})
    assert len(excluded) == 6


def test_a_verdict_can_be_ignored(tmp_path: Path) -> None:
    kept, _, data = read(tmp_path / "a.jsonl", with_column("label", [True, False]), {"ignore": "label"})
    assert len(kept) == 12
    assert "not used: label" in data.lines()[0]


def test_classes_beside_answers_are_no_verdicts(tmp_path: Path) -> None:
    kept, _, data = read(tmp_path / "a.jsonl", with_column("label", ["billing", "orders", "other"]))
    assert len(kept) == 12
    assert "not used: label (3 values that the model does not see)" in data.lines()[0]


@pytest.mark.parametrize(
    ("question", "context", "answer"),
    [
        ("instruction", "context", "response"),
        ("question", "context", "answer"),
        ("prompt", "input", "completion"),
        ("instruction", "input", "output"),
        ("question", "passage", "answer"),
        ("Question", "Document", "Answer"),
        ("pertanyaan", "konteks", "jawaban"),
    ],
)
def test_the_context_is_below_the_question(tmp_path: Path, question: str, context: str, answer: str) -> None:
    rows = [
        {question: "What is it?", context: f"The {thing} is made of wood.", answer: f"The {thing}."} for thing in THINGS
    ]
    kept, _, _ = read(tmp_path / "a.jsonl", rows)
    assert [row.fields["prompt"] for row in kept] == [
        f"What is it?\n\nThe {thing} is made of wood." for thing in THINGS
    ]


@pytest.mark.parametrize("context", ["context", "input"])
def test_the_context_of_a_preference_is_below_its_question(tmp_path: Path, context: str) -> None:
    rows = [{"prompt": "Which?", context: f"The {thing}.", "chosen": thing, "rejected": "No."} for thing in THINGS]
    kept, _, _ = read(tmp_path / "a.jsonl", rows)
    assert kept[0].kind is Kind.PREFERENCE
    assert kept[0].fields["prompt"] == "Which?\n\nThe kettle."


def test_an_empty_context_adds_nothing(tmp_path: Path) -> None:
    kept, _, _ = read(tmp_path / "a.jsonl", with_column("context", ["", None, " "]))
    assert [row.fields["prompt"] for row in kept] == [row["prompt"] for row in PAIRS]


@pytest.mark.parametrize("name", ["system", "system_prompt", "System Message"])
def test_a_system_column_is_the_system_message(tmp_path: Path, name: str) -> None:
    tables: list[list[dict[str, Any]]] = [PAIRS, [as_messages(row) for row in PAIRS]]
    for rows in tables:
        kept, _, _ = read(tmp_path / "a.jsonl", with_column(name, ["Be brief."], rows))
        assert len(kept) == 12
        assert kept[0].fields["messages"][0] == {"role": "system", "content": "Be brief."}
        assert [message["role"] for message in kept[0].fields["messages"]] == ["system", "user", "assistant"]


def test_a_system_column_of_preferences_is_the_system_message(tmp_path: Path) -> None:
    rows = [{"system": "Be brief.", "prompt": f"The {thing}?", "chosen": thing, "rejected": "No."} for thing in THINGS]
    kept, _, _ = read(tmp_path / "a.jsonl", rows)
    assert kept[0].fields["chosen"][0] == {"role": "system", "content": "Be brief."}
    assert kept[0].fields["rejected"][-1] == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    "history",
    [
        [["Hello", "Hello, what is it?"]],
        '[["Hello", "Hello, what is it?"]]',
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello, what is it?"}],
        [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hello, what is it?"}],
    ],
)
def test_the_history_is_before_the_question(tmp_path: Path, history: Any) -> None:
    kept, _, _ = read(tmp_path / "a.jsonl", with_column("history", [history]))
    texts = [message["content"] for message in kept[0].fields["messages"]]
    assert texts == ["Hello", "Hello, what is it?", PAIRS[0]["prompt"], PAIRS[0]["completion"]]


def test_a_history_that_begins_late_in_the_file_is_refused_and_not_dropped(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [row | {"history": []} for _ in range(100) for row in PAIRS] + [
        PAIRS[0] | {"history": [["a", "b"]]}
    ]
    kept, excluded, _ = read(tmp_path / "a.jsonl", rows)
    assert (len(kept), len(excluded)) == (1200, 1)


def test_empty_system_and_history_columns_change_nothing(tmp_path: Path) -> None:
    kept, _, _ = read(tmp_path / "a.jsonl", with_column("history", [[]], with_column("system", [""])))
    assert kept[0].kind is Kind.COMPLETION


@pytest.mark.parametrize(
    ("name", "values", "loss"),
    [
        ("tools", ['[{"name": "open"}]', '[{"name": "close"}]'], "the tools that answers may call"),
        ("rating", [1, 2, 3, 4, 5], "rows of any value are trained on alike"),
        ("subject", [f"About the {thing} of last week" for thing in THINGS], "text that the model does not see"),
        ("image", ["a.png", "b.png", "c.png"], "pictures or sounds"),
    ],
)
def test_what_an_unused_column_would_have_told_is_said(tmp_path: Path, name: str, values: list[Any], loss: str) -> None:
    _, _, data = read(tmp_path / "a.jsonl", with_column(name, values))
    assert f"not used: {name} ({loss}" in data.lines()[0]


def test_a_context_beside_labels_is_said(tmp_path: Path) -> None:
    rows = [
        {"text": f"The {thing} broke", "label": "ab"[i % 2], "context": "In May."} for i, thing in enumerate(THINGS)
    ]
    _, _, data = read(tmp_path / "a.jsonl", rows)
    assert "context (a part of the question that the model does not see)" in data.lines()[0]


def test_unknown_fields_and_columns_are_refused(tmp_path: Path) -> None:
    for mapping in ({"contxt": "prompt"}, {"context": "nowhere"}, {"ignore": "nowhere"}):
        with pytest.raises(UsageError):
            read(tmp_path / "a.jsonl", PAIRS, mapping)
