"""GSM8K: grade-school arithmetic in words (Cobbe et al. 2021)."""

from __future__ import annotations

import re

from empu.evals.suites.base import GenerationSuite, Question, Record
from empu.evals.suites.numbers import first_match, last_number

_IGNORED = (",", r"\$", r"(?s).*#### ", r"\.$")


def parse(record: Record) -> Question:
    """Read question and answer; the answer ends with ``#### number``."""
    return Question(f"Question: {record['question']}\nAnswer:", record["answer"])


def normalise(text: str) -> str:
    """Return a number without thousands separators, dollar signs, and the solution before it."""
    for pattern in _IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


GSM8K = GenerationSuite(
    name="gsm8k",
    about="arithmetic in words",
    source="openai/gsm8k",
    licence="MIT",
    fields="question and answer",
    parse=parse,
    files=("test.jsonl", "main/test-*.parquet", "test-*.parquet"),
    folders=("gsm8k", "main"),
    shot_files=("train.jsonl", "main/train-*.parquet", "train-*.parquet"),
    shots=5,
    stop=("Question:", "</s>", "<|im_end|>"),
    extract={"exact_match": first_match(r"#### (\-?[0-9\.\,]+)"), "flexible_extract": last_number},
    normalise=normalise,
    metrics=("exact_match", "flexible_extract"),
)
