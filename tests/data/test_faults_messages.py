"""Turns and lists are never learnt as JSON: the text of messages is taken, or they are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from empu.data.prompts import preference_of, prompt_completions, task_of
from empu.data.rows import Kind
from empu.errors import UsageError
from tests.data.reading import THINGS, read

QUESTION, ANSWER = "How do I order it?", "Open the page and press order."


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content} | keys


def several(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Twelve rows that differ."""
    return [json.loads(json.dumps(row).replace("order it", f"order the {thing}")) for thing in THINGS]


@pytest.mark.parametrize(
    "completion",
    [
        [assistant(ANSWER)],
        assistant(ANSWER),
        [{"from": "gpt", "value": ANSWER}],
        {"from": "gpt", "value": ANSWER},
        json.dumps([assistant(ANSWER)]),
        json.dumps(assistant(ANSWER)),
        str([assistant(ANSWER)]),
        [assistant([{"type": "text", "text": ANSWER}])],
        [ANSWER],
    ],
)
def test_an_answer_is_the_text_of_its_message(tmp_path: Path, completion: Any) -> None:
    kept, _, _ = read(tmp_path / "a.jsonl", several({"prompt": QUESTION, "completion": completion}))
    assert len(kept) == 12
    assert {row.fields["completion"] for row in kept} == {ANSWER}


@pytest.mark.parametrize(
    "prompt", [[user(QUESTION)], [{"from": "human", "value": QUESTION}], json.dumps([user(QUESTION)])]
)
@pytest.mark.parametrize("completion", [ANSWER, [assistant(ANSWER)]])
def test_a_prompt_of_messages_makes_a_dialogue(tmp_path: Path, prompt: Any, completion: Any) -> None:
    kept, _, _ = read(tmp_path / "a.jsonl", several({"prompt": prompt, "completion": completion}))
    assert len(kept) == 12
    assert kept[0].fields["messages"] == [user("How do I order the kettle?"), assistant(ANSWER)]


@pytest.mark.parametrize(
    "completion",
    [
        [assistant(ANSWER), user("And then?")],
        [user(ANSWER)],
        [ANSWER, "No.", "Maybe."],
        "[{'role': 'assistant' 'content': 'cut off",
        [assistant("", tool_calls=[{"id": "1"}])],
    ],
)
def test_what_is_no_single_answer_is_refused_by_name(tmp_path: Path, completion: Any) -> None:
    rows = [*several({"prompt": QUESTION, "completion": ANSWER}), {"prompt": "Why?", "completion": completion}]
    kept, excluded, _ = read(tmp_path / "a.jsonl", rows)
    assert (len(kept), len(excluded)) == (12, 1)
    assert "completion" in excluded[0].reason or "message 1" in excluded[0].reason


def test_objects_and_lists_of_objects_are_answers_in_json(tmp_path: Path) -> None:
    for answer in ({"total": 3}, [{"item": "lamp", "count": 2}], [1, 2]):
        kept, _, _ = read(tmp_path / "a.jsonl", several({"prompt": QUESTION, "completion": answer}))
        assert json.loads(str(kept[0].fields["completion"])) == answer


@pytest.mark.parametrize("name", ["output", "completion", "response"])
def test_two_answers_are_the_better_and_the_worse(tmp_path: Path, name: str) -> None:
    kept, _, _ = read(tmp_path / "a.jsonl", several({"instruction": QUESTION, name: [ANSWER, "No idea."]}))
    assert kept[0].kind is Kind.PREFERENCE
    assert (kept[0].fields["chosen"], kept[0].fields["rejected"]) == (ANSWER, "No idea.")


PREFERENCES = [
    {"prompt": [user(QUESTION)], "chosen": [assistant(ANSWER)], "rejected": [assistant("No.")]},
    {"prompt": QUESTION, "chosen": [assistant(ANSWER)], "rejected": [assistant("No.")]},
    {"prompt": QUESTION, "chosen": [user(QUESTION), assistant(ANSWER)], "rejected": [user(QUESTION), assistant("No.")]},
    {"chosen": [user(QUESTION), assistant(ANSWER)], "rejected": [user(QUESTION), assistant("No.")]},
    {"prompt": [user(QUESTION)], "chosen": ANSWER, "rejected": "No."},
    {"prompt": QUESTION, "chosen": assistant(ANSWER), "rejected": assistant("No.")},
    {
        "conversations": [{"from": "human", "value": QUESTION}],
        "chosen": {"from": "gpt", "value": ANSWER},
        "rejected": {"from": "gpt", "value": "No."},
    },
    {"messages": [user(QUESTION)], "chosen": ANSWER, "rejected": "No."},
    {
        "chosen": f"\n\nHuman: {QUESTION}\n\nAssistant: {ANSWER}",
        "rejected": f"\n\nHuman: {QUESTION}\n\nAssistant: No.",
    },
]


@pytest.mark.parametrize("row", PREFERENCES, ids=range(len(PREFERENCES)))
def test_preferences_of_messages_have_their_question_and_two_texts(tmp_path: Path, row: dict[str, Any]) -> None:
    kept, excluded, _ = read(tmp_path / "a.jsonl", several(row))
    assert (len(kept), len(excluded)) == (12, 0)
    pair = preference_of(task_of(kept[0].kind, kept), kept[0])
    assert pair.prompt == [user("How do I order the kettle?")]
    assert (pair.chosen, pair.rejected) == (ANSWER, "No.")


def test_a_preference_without_a_question_is_refused_with_what_to_do(tmp_path: Path) -> None:
    rows = [{"chosen": f"The {thing}.", "rejected": "No."} for thing in THINGS]
    kept, excluded, _ = read(tmp_path / "a.jsonl", rows)
    assert not kept
    assert "add a column 'prompt'" in excluded[0].reason


@pytest.mark.parametrize(
    "flag", [{"train": False}, {"weight": 0}, {"loss": False}, {"masked": True}, {"train": "false"}, {"train": 0}]
)
def test_turns_that_are_marked_are_read_and_not_learnt(tmp_path: Path, flag: dict[str, Any]) -> None:
    messages = [user("How do I order it?"), assistant("Wrong.", **flag), user("No!"), assistant(ANSWER)]
    kept, _, _ = read(tmp_path / "a.jsonl", several({"messages": messages}))
    [example] = prompt_completions(task_of(Kind.MESSAGES, kept), kept[:1])
    assert example.completion == ANSWER
    assert example.prompt[1]["content"] == "Wrong."


def test_a_flag_that_is_no_flag_is_refused(tmp_path: Path) -> None:
    messages = [user(QUESTION), assistant(ANSWER, train="perhaps")]
    good = several({"messages": [user(QUESTION), assistant(ANSWER)]})
    kept, excluded, _ = read(tmp_path / "a.jsonl", [*good, {"messages": messages}])
    assert (len(kept), len(excluded)) == (12, 1)
    assert "train = 'perhaps'" in excluded[0].reason


@pytest.mark.parametrize(
    "content",
    [
        [{"text": "a"}, {"text": "b"}],
        [{"type": "text", "text": "a"}, {"text": "b"}],
        ["a", "b"],
        [{"type": "input_text", "text": "a"}, "b"],
    ],
)
def test_parts_with_and_without_a_type_are_text(tmp_path: Path, content: Any) -> None:
    kept, _, _ = read(tmp_path / "a.jsonl", several({"messages": [user(content), assistant([{"text": ANSWER}])]}))
    assert [message["content"] for message in kept[0].fields["messages"]] == ["a\nb", ANSWER]


def test_messages_of_gemini_are_read(tmp_path: Path) -> None:
    contents = [{"role": "user", "parts": [{"text": QUESTION}]}, {"role": "model", "parts": [{"text": ANSWER}]}]
    kept, _, _ = read(tmp_path / "a.jsonl", several({"contents": contents}))
    assert kept[0].fields["messages"][1] == assistant(ANSWER)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (assistant(None, tool_calls=[{"id": "1", "function": {"name": "open"}}]), "calls a tool"),
        (assistant(None, function_call={"name": "open"}), "calls a tool"),
        ({"role": "tool", "content": "ok"}, "calls a tool"),
        ({"from": "function_call", "value": "{}"}, "calls a tool"),
        (user([{"type": "image_url", "image_url": {"url": "x"}}]), "'image_url'"),
        (user(None), "has no text"),
        (user(7), "int where text is expected"),
    ],
)
def test_what_is_not_text_between_people_and_assistant_is_named(
    tmp_path: Path, message: dict[str, Any], named: str
) -> None:
    good = several({"messages": [user(QUESTION), assistant(ANSWER)]})
    kept, excluded, _ = read(tmp_path / "a.jsonl", [*good, {"messages": [message, user("b"), assistant(ANSWER)]}])
    assert len(kept) == 12
    assert named in excluded[0].reason


def test_keys_of_messages_that_are_not_used_are_said(tmp_path: Path) -> None:
    messages = [user(QUESTION), assistant(ANSWER, reasoning_content="First I look at the page.")]
    _, _, data = read(tmp_path / "a.jsonl", several({"messages": messages}))
    assert "not used: messages[].reasoning_content (text of messages" in data.lines()[0]


def test_messages_written_as_text_in_a_table_are_messages(tmp_path: Path) -> None:
    for spelled in (json.dumps, str):
        cells = [spelled([user(f"The {thing}?"), assistant(ANSWER)]).replace('"', '""') for thing in THINGS]
        kept, _, _ = read(tmp_path / "a.csv", "\n".join(["messages", *(f'"{cell}"' for cell in cells)]))
        assert kept[0].fields["messages"] == [user("The kettle?"), assistant(ANSWER)]


def test_a_text_of_messages_beside_a_label_is_their_text_or_refused(tmp_path: Path) -> None:
    rows: list[Any] = [{"text": [user(f"The {thing}")], "label": "ab"[i % 2]} for i, thing in enumerate(THINGS)]
    rows.append({"text": [user("a"), assistant("b")], "label": "a"})
    kept, excluded, _ = read(tmp_path / "a.jsonl", rows, {"text": "text", "label": "label"})
    assert kept[0].fields["text"] == "The kettle"
    assert "a conversation of 2 messages" in excluded[0].reason


def test_a_system_message_that_only_some_rows_have_is_no_instruction(tmp_path: Path) -> None:
    rows = several({"messages": [{"role": "system", "content": "Be brief."}, user(QUESTION), assistant(ANSWER)]})
    kept, _, _ = read(tmp_path / "a.jsonl", rows)
    assert task_of(Kind.MESSAGES, kept).instruction == "Be brief."
    kept, _, _ = read(tmp_path / "a.jsonl", [*rows, {"messages": [user("Why?"), assistant(ANSWER)]}])
    assert task_of(Kind.MESSAGES, kept).instruction is None


def test_answers_in_messages_that_are_all_json_have_a_schema(tmp_path: Path) -> None:
    rows = several({"messages": [user(QUESTION), assistant('{"desk": "a",  "late": true}')]})
    kept, _, _ = read(tmp_path / "a.jsonl", rows)
    task = task_of(Kind.MESSAGES, kept)
    assert task.schema is not None
    assert next(prompt_completions(task, kept)).completion == '{"desk":"a","late":true}'
    kept, _, _ = read(tmp_path / "a.jsonl", [*rows, {"messages": [user("Why?"), assistant("So.")]}])
    assert task_of(Kind.MESSAGES, kept).schema is None


def test_messages_of_speakers_are_read(tmp_path: Path) -> None:
    dialog = [{"speaker": "user", "text": QUESTION}, {"speaker": "assistant", "text": ANSWER}]
    kept, _, _ = read(tmp_path / "a.jsonl", several({"dialog": dialog}))
    assert kept[0].fields["messages"] == [user("How do I order the kettle?"), assistant(ANSWER)]


@pytest.mark.parametrize("value", [["Hi", "Hello"], [["Hi", "Hello"]], [{"user": "Hi", "assistant": "Hello"}]])
def test_turns_in_another_form_are_refused_with_the_form_to_use(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UsageError, match="not messages with role and content"):
        read(tmp_path / "a.jsonl", several({"conversation": value}))


def test_preferences_in_the_form_of_openai_are_read(tmp_path: Path) -> None:
    row = {
        "input": {"messages": [user(QUESTION)], "tools": []},
        "preferred_output": [assistant(ANSWER)],
        "non_preferred_output": [assistant("No.")],
    }
    kept, _, _ = read(tmp_path / "a.jsonl", several(row))
    pair = preference_of(task_of(kept[0].kind, kept), kept[0])
    assert (pair.prompt, pair.chosen, pair.rejected) == ([user("How do I order the kettle?")], ANSWER, "No.")


def test_a_transcript_before_an_answer_is_a_dialogue(tmp_path: Path) -> None:
    prompt = f"\n\nHuman: Hello\n\nAssistant: Hello.\n\nHuman: {QUESTION}\n\nAssistant:"
    kept, _, _ = read(tmp_path / "a.jsonl", several({"prompt": prompt, "completion": ANSWER}))
    assert [message["role"] for message in kept[0].fields["messages"]] == ["user", "assistant"] * 2
    kept, _, _ = read(tmp_path / "b.jsonl", several({"prompt": prompt, "chosen": ANSWER, "rejected": "No."}))
    assert [message["role"] for message in kept[0].fields["chosen"]] == ["user", "assistant"] * 2


def test_a_transcript_as_an_answer_is_refused_by_name(tmp_path: Path) -> None:
    kept, excluded, _ = read(
        tmp_path / "a.jsonl", several({"prompt": QUESTION, "completion": "\n\nHuman: a\n\nAssistant: b"})
    )
    assert not kept
    assert "is a transcript of several turns" in excluded[0].reason
