"""Rows as prompts and completions: the task that rows teach, and the dialogue and answer of each row.

Nothing here knows a tokenizer; ``tune/encoding.py`` turns prompts and completions into token ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from empu.data.answer_schema import canonical_answer, infer_schema
from empu.data.rows import Kind, Row
from empu.errors import UsageError
from empu.text.base import Message
from empu.text.prompt_encoding import readable_labels
from empu.text.task import Task

INSTRUCTION = "Name the category of the message."
"""Short, because each question to the specialist repeats it."""


class PromptCompletion(NamedTuple):
    """A dialogue that ends with a question, and the answer to learn."""

    prompt: list[Message]
    completion: str


class PreferencePair(NamedTuple):
    """A dialogue that ends with a question, and the better and the worse answer."""

    prompt: list[Message]
    chosen: str
    rejected: str


def task_of(kind: Kind, rows: Sequence[Row]) -> Task:
    """Return the task that these rows teach: labels, or the schema and the instruction that all answers share.

    Raises :class:`~empu.errors.UsageError` for rows of fewer than two labels.
    """
    if kind is Kind.LABEL:
        return _label_task(rows)
    if kind is Kind.COMPLETION:
        return Task("completion", schema=infer_schema(str(row.fields["completion"]) for row in rows))
    instruction = _shared_system_message(rows)
    if kind is Kind.PREFERENCE:
        return Task("completion", instruction)
    answers = (turn.completion for row in rows for turn in _assistant_turns(row.fields["messages"]))
    return Task("messages", instruction, schema=infer_schema(answers))


def _label_task(rows: Sequence[Row]) -> Task:
    labels = sorted({str(row.label) for row in rows})
    if len(labels) < 2:
        problem = f"All training rows have the label {labels[0]!r}" if labels else "No training row has a label"
        raise UsageError(f"{problem}; a classifier needs at least two, so add rows with other labels.")
    return Task("label", INSTRUCTION, tuple(labels))


def _shared_system_message(rows: Sequence[Row]) -> str | None:
    """Return the system message with which all dialogues begin, ``None`` if they differ or have none."""
    shared: str | None = None
    for row in rows:
        messages = row.fields.get("messages", row.fields.get("chosen"))
        first = messages[0] if isinstance(messages, list) else None
        if first is None or first["role"] != "system" or (shared is not None and first["content"] != shared):
            return None
        shared = str(first["content"])
    return shared


def prompt_completions(task: Task, rows: Sequence[Row]) -> Iterator[PromptCompletion]:
    """Yield what each row teaches; a dialogue gives one pair for each assistant message that is trained on.

    Rows whose label is not in the task are skipped: they belong to a part that is not trained on.
    """
    label_texts = dict(zip(task.labels, readable_labels(task.labels), strict=True))
    for row in rows:
        if row.kind is Kind.MESSAGES:
            for prompt, completion in _assistant_turns(row.fields["messages"]):
                yield PromptCompletion(prompt, _as_generated(task, completion))
        elif row.kind is not Kind.LABEL:
            yield PromptCompletion(task.messages(row.question()), _as_generated(task, str(row.fields["completion"])))
        elif row.label in label_texts:
            yield PromptCompletion(task.messages(row.question()), label_texts[str(row.label)])


def _as_generated(task: Task, answer: str) -> str:
    """Return an answer as constrained decoding would write it."""
    return answer if task.schema is None else canonical_answer(answer, task.schema)


def preference_of(task: Task, row: Row) -> PreferencePair:
    """Return the prompt and the two answers of a preference row.

    Raises :class:`~empu.errors.UsageError` if the two answers do not follow the same prompt.
    """
    chosen, rejected = row.fields["chosen"], row.fields["rejected"]
    place = f"{row.source}:{row.number}"
    if isinstance(chosen, list) and isinstance(rejected, list):
        if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
            raise UsageError(
                f"{place}: chosen and rejected do not answer the same messages; correct or remove the row."
            )
        return PreferencePair(list(chosen[:-1]), str(chosen[-1]["content"]), str(rejected[-1]["content"]))
    if isinstance(chosen, str) and isinstance(rejected, str) and str(row.fields.get("prompt", "")).strip():
        return PreferencePair(task.messages(str(row.fields["prompt"])), chosen, rejected)
    raise UsageError(f"{place} has no prompt that both answers follow; add a column 'prompt', or --map prompt=COLUMN.")


def answer_of(row: Row) -> str:
    """Return the right answer to a row's question."""
    if row.kind is Kind.LABEL:
        return str(row.label)
    return str(row.fields["messages"][-1]["content"] if row.kind is Kind.MESSAGES else row.fields["completion"])


def question_of(task: Task, row: Row) -> list[Message]:
    """Return the dialogue that asks for a row's answer."""
    return list(row.fields["messages"][:-1]) if row.kind is Kind.MESSAGES else task.messages(row.question())


def _assistant_turns(messages: Sequence[Message]) -> Iterator[PromptCompletion]:
    for i, message in enumerate(messages):
        if message["role"] == "assistant" and i and message.get("weight") != 0:
            yield PromptCompletion(list(messages[:i]), str(message["content"]))
