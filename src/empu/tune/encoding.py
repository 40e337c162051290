"""Encode rows as token ids to train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from empu.data.prompts import preference_of, prompt_completions
from empu.data.rows import Kind, Row
from empu.errors import DialogueRefusedError, TemplateError
from empu.text.base import TextProcessor
from empu.text.prompt_encoding import encode_answer, encode_prompt
from empu.text.task import Task
from empu.text.templates.turns import merge_system_message
from empu.tune.examples import Example, PackedExamples, PreferenceExample


def encode_rows(
    text: TextProcessor, task: Task, rows: Sequence[Row]
) -> Sequence[Example] | Sequence[PreferenceExample]:
    """Return the examples of rows of one kind: one a row, or one for each trained answer of a dialogue.

    Raises :class:`~empu.errors.UsageError` where the two answers of a preference do not follow the same prompt.
    """
    if rows and rows[0].kind is Kind.PREFERENCE:
        return [_encode_preference(text, task, row) for row in rows]
    return PackedExamples(_encode_completions(text, task, rows))


def template_problem(text: TextProcessor, row: Row) -> str | None:
    """Return why the chat template does not take the dialogue of a row; ``None`` if it does."""
    messages = row.fields.get("messages", row.fields.get("chosen"))
    if text.template is None or not isinstance(messages, list):
        return None
    answers = [i for i, message in enumerate(messages) if i and message["role"] == "assistant"]
    if not answers:
        return None
    try:
        text.template.render(merge_system_message(text.template, messages[: answers[-1]]))
    except DialogueRefusedError as error:
        return f"the chat template of the base model refuses it: {error.reason.rstrip('.')}"
    except TemplateError as error:
        return str(error).rstrip(".")
    return None


def _encode_completions(text: TextProcessor, task: Task, rows: Sequence[Row]) -> Iterator[Example]:
    for prompt, completion in prompt_completions(task, rows):
        yield Example(tuple(encode_prompt(text, prompt)), tuple(encode_answer(text, completion)))


def _encode_preference(text: TextProcessor, task: Task, row: Row) -> PreferenceExample:
    prompt, chosen, rejected = preference_of(task, row)
    return PreferenceExample(
        tuple(encode_prompt(text, prompt)),
        tuple(encode_answer(text, chosen)),
        tuple(encode_answer(text, rejected)),
    )
