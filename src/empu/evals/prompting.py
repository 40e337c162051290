"""Prompts for models that were not tuned for a task: zero-shot and few-shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from empu.data.prompts import answer_of
from empu.data.rows import Row
from empu.engine.language_model import LanguageModel
from empu.text.prompt_encoding import encode_prompt
from empu.text.task import Task

MAX_SHOTS = 4


def zero_shot_task(task: Task) -> Task:
    """Return the task for a model that was not tuned for it: the instruction lists the labels."""
    if task.kind != "label":
        return task
    labels = ", ".join(task.labels)
    return replace(task, instruction=f"Name the category of the message. The categories are: {labels}.")


def few_shot_task(task: Task, train: Sequence[Row]) -> Task:
    """Return the task with training rows as examples: the shortest of the first 500, of different labels."""
    examples: dict[str, Row] = {}
    for row in sorted(train[:500], key=lambda row: len(row.question())):
        examples.setdefault(answer_of(row) if task.kind == "label" else row.id, row)
        if len(examples) == MAX_SHOTS:
            break
    return replace(task, shots=tuple((row.question(), answer_of(row)) for row in examples.values()))


def fits_context(model: LanguageModel, task: Task, rows: Sequence[Row]) -> bool:
    """Return whether the longest question, with the examples of the task, fits in half of the context."""
    longest = max(rows, key=lambda row: len(row.question()))
    return len(encode_prompt(model.text, task.messages(longest.question()))) <= model.context_length // 2


def with_task(model: LanguageModel, task: Task) -> LanguageModel:
    """Return the same open model with another task."""
    return LanguageModel(
        model.backend,
        model.text,
        checkpoint_path=model.checkpoint_path,
        context_length=model.context_length,
        task=task,
    )
