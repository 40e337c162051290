"""Build a row's fields from a record's cells, or find the reason why the record is not a row."""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from empu.data.messages import (
    UnusableError,
    check_dialogue,
    clean_text,
    find_messages,
    history_messages,
    looks_like_messages,
    read_messages,
    system_text,
    transcript_messages,
    with_system,
)
from empu.data.rows import Kind, UnreadableCell

NO_PROMPT = "it has no prompt that both answers follow; add a column 'prompt', or --map prompt=COLUMN"
"""Reason for a preference of two answers without a question."""


def words(listed: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(listed.split())


GOOD = words(
    "true 1 1.0 yes y good up positive like liked desirable accepted accept correct right pass passed ok +1 👍 "
    "thumbsup thumbs_up helpful chosen approved"
)
BAD = words(
    "false 0 0.0 no n bad down negative dislike disliked undesirable rejected reject incorrect wrong fail failed -1 "
    "-1.0 👎 thumbsdown thumbs_down unhelpful disapproved"
)
"""Values of a column that says whether an answer is good."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def build_fields(
    kind: Kind, columns: Mapping[str, str], values: Mapping[str, Any], exact: bool = True
) -> dict[str, Any]:
    """Return the fields of a row.

    ``columns`` maps fields to columns. ``exact`` is false if the decoder wrote U+FFFD for what it could not decode.
    Raises :class:`~empu.data.messages.UnusableError`.
    """
    cells = _Cells(columns, values)
    cells.check_verdict()
    fields = BUILDERS[kind](cells)
    _check_characters(fields, exact)
    return fields


class _Cells:
    """The cells of a record by field."""

    def __init__(self, columns: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self.columns, self.values = columns, values

    def has(self, name: str) -> bool:
        return name in self.columns

    def get(self, name: str) -> Any:
        value = self.values.get(self.columns[name]) if name in self.columns else None
        if isinstance(value, UnreadableCell):
            raise UnusableError(f"the {name} {value.problem}")
        return value

    def text(self, name: str) -> str:
        """Return a text that is asked about."""
        value = self.get(name)
        raw_messages = find_messages(value)
        if raw_messages is not None:
            messages = read_messages(raw_messages, name)
            if len(messages) != 1:
                raise UnusableError(f"the {name} is a conversation of {len(messages)} messages and not a text")
            return str(messages[0]["content"])
        return _text(value, name)

    def answer(self, name: str) -> str:
        """Return a text that is learnt: the message's content, or JSON for structured answers."""
        value = self.get(name)
        raw_messages = find_messages(value)
        if raw_messages is not None:
            messages = read_messages(raw_messages, name)
            if len(messages) != 1 or messages[0]["role"] != "assistant":
                raise UnusableError(
                    f"the {name} is a conversation of {len(messages)} messages and not one answer of the assistant; "
                    "put it in a column 'messages'"
                )
            if "weight" in messages[0]:
                raise UnusableError(f"the {name} is marked as not to be learnt", "not to be learnt")
            return str(messages[0]["content"])
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            if len(value) > 1:
                raise UnusableError(f"the {name} is a list of {len(value)} texts; give one answer a row")
            value = value[0]
        if isinstance(value, list | dict):
            value = json.dumps(value, ensure_ascii=False)
        text = _text(value, name)
        if transcript_messages(text) is not None:
            raise UnusableError(f"the {name} is a transcript of several turns; write each turn as a message")
        return text

    def with_context(self, prompt: str) -> str:
        """Return the prompt with the context below it, if there is one."""
        context = self.get("context")
        if isinstance(context, list) and all(isinstance(item, str) for item in context):
            context = "\n\n".join(context)
        if context is None or not str(context).strip():
            return prompt
        return f"{prompt}\n\n{_text(context, 'context')}"

    def system(self) -> str:
        return system_text(self.get("system"))

    def question_messages(self, required: bool = True) -> list[dict[str, Any]]:
        """Return the dialogue up to and with the question: system message, history, prompt."""
        value = self.get("prompt")
        raw_messages = find_messages(value)
        if raw_messages is not None:
            messages = read_messages(raw_messages, "prompt")
            context = self.with_context("").strip()
            if context:
                messages[-1] = messages[-1] | {"content": f"{messages[-1]['content']}\n\n{context}"}
        elif value is None and not required:
            messages = []
        elif isinstance(value, str) and (turns := transcript_messages(value)) is not None:
            messages = turns
        else:
            messages = [{"role": "user", "content": self.with_context(_text(value, "prompt"))}]
        history = history_messages(self.get("history"))
        if history and messages and messages[0]["role"] == "system":
            messages = [messages[0], *history, *messages[1:]]
        else:
            messages = [*history, *messages]
        return with_system(messages, self.system())

    def check_verdict(self) -> None:
        """Raise if the row is marked as bad."""
        value = self.get("verdict")
        if value is None or not self.has("verdict"):
            return
        word = str(value).strip().casefold()
        if word in BAD:
            column = self.columns["verdict"]
            raise UnusableError(f"it is marked as bad ({column} is {str(value).strip()})", "marked as bad")
        if word and word not in GOOD:
            raise UnusableError(f"its verdict {value!r} says neither that it is good nor that it is bad")


def _label_fields(cells: _Cells) -> dict[str, Any]:
    return {"text": cells.text("text"), "label": _label(cells.get("label"))}


def _completion_fields(cells: _Cells) -> dict[str, Any]:
    if cells.system() or history_messages(cells.get("history")):
        raise UnusableError("it has a system message or a history, where the first rows of the file have none")
    return {"prompt": cells.with_context(cells.text("prompt")), "completion": cells.answer("completion")}


def _message_fields(cells: _Cells) -> dict[str, Any]:
    if cells.has("messages"):
        messages = with_system(read_messages(cells.get("messages"), "messages"), cells.system())
    else:
        messages = cells.question_messages()
        answer = cells.get("completion")
        if find_messages(answer) is not None:
            messages += read_messages(answer, "completion")
        else:
            messages.append({"role": "assistant", "content": cells.answer("completion")})
    return {"messages": check_dialogue(messages)}


def _preference_fields(cells: _Cells) -> dict[str, Any]:
    if cells.has("answers"):
        answers = cells.get("answers")
        if not isinstance(answers, list) or len(answers) != 2:
            raise UnusableError("it does not have two answers, the better one first")
        chosen, rejected = answers
    else:
        chosen, rejected = cells.get("chosen"), cells.get("rejected")
    sides = [_dialogue_of(chosen, "chosen"), _dialogue_of(rejected, "rejected")]
    prompt = cells.get("prompt")
    is_plain = not any(isinstance(side, list) for side in sides) and find_messages(prompt) is None
    is_plain = is_plain and (not isinstance(prompt, str) or transcript_messages(prompt) is None)
    if is_plain and not cells.system() and not history_messages(cells.get("history")):
        if prompt is None or not str(prompt).strip():
            raise UnusableError(NO_PROMPT)
        fields = {"prompt": cells.with_context(_text(prompt, "prompt")), "chosen": sides[0], "rejected": sides[1]}
    else:
        question = cells.question_messages(required=False)
        better, worse = (_with_question(side, question, cells) for side in sides)
        if len(better) < 2 or len(worse) < 2:
            raise UnusableError(NO_PROMPT)
        if better[-1]["role"] != "assistant" or worse[-1]["role"] != "assistant":
            raise UnusableError("chosen or rejected does not end with the assistant's message")
        if better[:-1] != worse[:-1]:
            raise UnusableError("chosen and rejected do not answer the same messages")
        fields = {"chosen": better, "rejected": worse}
    if fields["chosen"] == fields["rejected"]:
        raise UnusableError("chosen and rejected are the same")
    return fields


def _dialogue_of(value: Any, name: str) -> str | list[dict[str, Any]]:
    """Return one side of a preference: an answer, or a dialogue that ends with it."""
    if find_messages(value) is not None:
        return [{"role": m["role"], "content": m["content"]} for m in read_messages(value, name)]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    text = _text(value, name)
    return transcript_messages(text) or text


def _with_question(
    side: str | list[dict[str, Any]], question: list[dict[str, Any]], cells: _Cells
) -> list[dict[str, Any]]:
    if isinstance(side, str):
        return [*question, {"role": "assistant", "content": side}]
    if len(side) > 1:  # it holds its question
        return with_system(side, cells.system())
    return [*question, *side]


BUILDERS = {
    Kind.LABEL: _label_fields,
    Kind.COMPLETION: _completion_fields,
    Kind.MESSAGES: _message_fields,
    Kind.PREFERENCE: _preference_fields,
}


def _label(value: Any) -> str:
    """Return a label: one name, or a list of one. Raises for a list of several."""
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        value = _parse_list(value.strip())
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise UnusableError(f"the label is a list of {len(value)} labels, and a row has one")
        value = value[0] if value else None
    return unicodedata.normalize("NFC", _text(value, "label")).strip()


def _parse_list(text: str) -> Any:
    """Return a list that is written as JSON or as a Python literal; other texts stay."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list):
            return value
    return text


def _text(value: Any, name: str) -> str:
    if isinstance(value, UnreadableCell):
        raise UnusableError(f"the {name} {value.problem}")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnusableError(f"the {name} is {value}, which is not a number")
        value = int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, int | float):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableError(f"the {name} is empty", "empty")
    if not isinstance(value, str):
        raise UnusableError(f"the {name} is {'a list' if isinstance(value, list) else 'an object'} and not a text")
    if looks_like_messages(value) and find_messages(value) is None and not _is_json(value):
        raise UnusableError(f"the {name} looks like a list of messages, but it cannot be read")
    return clean_text(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _check_characters(value: Any, exact: bool) -> None:
    if isinstance(value, str):
        if _SURROGATE.search(value) or (not exact and "\ufffd" in value):
            raise UnusableError("it holds bytes that are not text in the file's encoding")
        if "\0" in value:
            raise UnusableError("it holds a NUL character")
    elif isinstance(value, dict):
        for inner in value.values():
            _check_characters(inner, exact)
    elif isinstance(value, list):
        for inner in value:
            _check_characters(inner, exact)
