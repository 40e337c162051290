"""From rows to what the model is tuned on: a task, and token ids of questions and answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from empu.data.answer_schema import schema_of, written
from empu.data.rows import Kind, Row
from empu.errors import UsageError
from empu.text.base import Message, Text
from empu.text.task import Task, encode_answer, encode_question, spoken
from empu.tune.batches import Example
from empu.tune.objectives.preference import Pair

INSTRUCTION = "Name the category of the message."
"""Short on purpose: every row pays for it when the specialist is asked."""


def task_of(kind: Kind, rows: Sequence[Row]) -> Task:
    """What these rows teach. Raises :class:`UsageError` for rows of one label only."""
    if kind is not Kind.LABEL:
        if kind is Kind.COMPLETION:
            return Task("completion", schema=schema_of(str(row.fields["completion"]) for row in rows))
        return Task("messages" if kind is Kind.MESSAGES else "completion")
    labels = sorted({str(row.label) for row in rows})
    if len(labels) < 2:
        found = f"All rows to tune on have the label {labels[0]!r}" if labels else "No row to tune on has a label"
        raise UsageError(f"{found}; there is nothing to tell apart, so add rows of others.")
    return Task("label", INSTRUCTION, tuple(labels))


def examples_of(text: Text, task: Task, rows: Sequence[Row]) -> Iterator[Example]:
    """One example a row, none for a label that the task lacks; a dialogue gives one for each of its answers."""
    said = dict(zip(task.labels, spoken(task.labels), strict=True))
    for row in rows:
        if row.kind is Kind.MESSAGES:
            yield from _dialogue(text, row.fields["messages"])
            continue
        if row.kind is Kind.PREFERENCE:
            yield pair_of(text, task, row)
            continue
        if row.kind is Kind.LABEL and row.label not in said:
            continue  # of a part that is not trained on
        answer = said[str(row.label)] if row.kind is Kind.LABEL else str(row.fields["completion"])
        if task.schema is not None:
            answer = written(answer, task.schema)
        yield _example(text, task.messages(row.question()), answer)


def pair_of(text: Text, task: Task, row: Row) -> Pair:
    """A preference as token ids. Raises :class:`UsageError` where there is no prompt that both answers follow."""
    chosen, rejected = row.fields["chosen"], row.fields["rejected"]
    where = f"{row.source}:{row.number}"
    if isinstance(chosen, list) and isinstance(rejected, list):
        if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
            raise UsageError(
                f"{where}: chosen and rejected do not answer the same messages; correct or remove the row."
            )
        question, sides = chosen[:-1], (chosen[-1]["content"], rejected[-1]["content"])
    elif isinstance(chosen, str) and isinstance(rejected, str) and str(row.fields.get("prompt", "")).strip():
        question, sides = task.messages(str(row.fields["prompt"])), (chosen, rejected)
    else:
        raise UsageError(
            f"{where} has no prompt that both answers follow; add a column 'prompt', or --map prompt=COLUMN."
        )
    ids, (better, worse) = encode_question(text, list(question)), (encode_answer(text, side) for side in sides)
    return Pair(tuple(ids), tuple(better), tuple(worse))


def answer_of(row: Row) -> str:
    """The right answer to a row's question."""
    if row.kind is Kind.LABEL:
        return str(row.label)
    return str(row.fields["messages"][-1]["content"] if row.kind is Kind.MESSAGES else row.fields["completion"])


def question_of(task: Task, row: Row) -> list[Message]:
    """The dialogue that asks for a row's answer."""
    return list(row.fields["messages"][:-1]) if row.kind is Kind.MESSAGES else task.messages(row.question())


def _dialogue(text: Text, messages: Sequence[Message]) -> Iterator[Example]:
    for i, message in enumerate(messages):
        if message["role"] == "assistant" and i and message.get("weight") != 0:
            yield _example(text, list(messages[:i]), str(message["content"]))


def _example(text: Text, question: list[Message], answer: str) -> Example:
    return Example(tuple(encode_question(text, question)), tuple(encode_answer(text, answer)))
