"""OpenBookQA: elementary science facts, applied (Mihaylov et al. 2018)."""

from __future__ import annotations

import re
from typing import Any

from empu.evals.suites.base import MultipleChoiceSuite, Question, Record

_LABEL = re.compile(r"\(([A-D])\) ")


def parse(record: Record) -> Question:
    """Read the shape of Hugging Face, the original JSON, or the original TSV."""
    if "Question Stem" in record:
        parts = _LABEL.split(record["Choices"])
        labels, texts = parts[1::2], [text.strip() for text in parts[2::2]]
        stem, key = record["Question Stem"], record["Answer Key"]
    else:
        question: Any = record.get("question", record)
        stem = question["stem"] if "stem" in question else record["question_stem"]
        choices = question["choices"]
        if isinstance(choices, list):
            texts, labels = [choice["text"] for choice in choices], [choice["label"] for choice in choices]
        else:
            texts, labels = list(choices["text"]), list(choices["label"])
        key = record["answerKey"]
    correct = labels.index(key.strip())
    return Question(stem, texts[correct], tuple(texts), (correct,))


OPENBOOKQA = MultipleChoiceSuite(
    name="openbookqa",
    about="elementary science facts, applied",
    source="allenai/openbookqa",
    licence="Apache-2.0",
    fields="question_stem, choices (text, label) and answerKey",
    parse=parse,
    files=("test.jsonl", "test-*.parquet", "test.tsv"),
    folders=("openbookqa", "main", "Main"),
    shot_files=("train.jsonl", "train-*.parquet", "train.tsv"),
    metrics=("acc_norm", "acc"),
)
