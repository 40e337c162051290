"""HellaSwag: the most plausible next sentence (Zellers et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from empu.evals.suites.base import MultipleChoiceSuite, Question, Record
from empu.evals.suites.files import read_records, read_text

LINES_PER_ROW = 6


def parse(record: Record) -> Question:
    """Read activity_label, ctx_a, ctx_b, endings and label."""
    context = f"{record['activity_label']}: {record['ctx_a']} {record['ctx_b'].capitalize()}"
    endings = tuple(_clean(ending) for ending in record["endings"])
    correct = int(record["label"])
    return Question(_clean(context), endings[correct], endings, (correct,), cluster=str(record.get("source_id") or ""))


def read(path: Path) -> Iterable[Record]:
    """Read JSON Lines or Parquet, or a text file of six lines a row: context, label, four endings."""
    if ".txt" not in path.suffixes:
        return read_records(path)
    lines = read_text(path).rstrip("\n").split("\n")
    return [_record(lines[i : i + LINES_PER_ROW]) for i in range(0, len(lines), LINES_PER_ROW)]


def _record(lines: list[str]) -> Record:
    """The text file joins activity and context, and holds the context in one piece."""
    activity, _, context = lines[0].partition(": ")
    return {"activity_label": activity, "ctx_a": context, "ctx_b": "", "label": lines[1], "endings": lines[2:]}


def _clean(text: str) -> str:
    """Remove the marks of WikiHow, such as [title], as lm-evaluation-harness does."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


HELLASWAG = MultipleChoiceSuite(
    name="hellaswag",
    about="the most plausible next sentence",
    source="Rowan/hellaswag",
    licence="MIT",
    fields="activity_label, ctx_a, ctx_b, endings and label",
    parse=parse,
    read=read,
    files=("hellaswag_val*.jsonl", "validation*.jsonl", "validation-*.parquet", "hellaswag_val*.txt*"),
    folders=("hellaswag", "data"),
    shot_files=("hellaswag_train*.jsonl", "train*.jsonl", "train-*.parquet"),
    metrics=("acc_norm", "acc"),
)
