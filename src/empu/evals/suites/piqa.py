"""PIQA: everyday physical knowledge, two solutions (Bisk et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empu.errors import UsageError
from empu.evals.suites.base import MultipleChoiceSuite, Question, Record
from empu.evals.suites.files import read_records, read_text


def parse(record: Record) -> Question:
    """Read goal, sol1, sol2 and label."""
    choices = (record["sol1"], record["sol2"])
    correct = int(record["label"])
    return Question(f"Question: {record['goal']}\nAnswer:", choices[correct], choices, (correct,))


def read(path: Path) -> Iterator[Record]:
    """Read the records. In the original, the labels stand in a file beside them."""
    labels = path.with_name(f"{path.stem}-labels.lst")
    records = list(read_records(path))
    if labels.is_file():
        values = read_text(labels).split()
        if len(values) != len(records):
            raise UsageError(f"{path} has {len(records)} rows and {labels} has {len(values)} labels; they must agree.")
        records = [{**record, "label": value} for record, value in zip(records, values, strict=True)]
    yield from records


PIQA = MultipleChoiceSuite(
    name="piqa",
    about="everyday physical knowledge",
    source="https://yonatanbisk.com/piqa",
    licence="AFL 3.0",
    fields="goal, sol1, sol2 and label",
    parse=parse,
    read=read,
    files=("valid.jsonl", "validation*.jsonl", "validation-*.parquet"),
    folders=("piqa", "data"),
    shot_files=("train.jsonl", "train-*.parquet"),
    metrics=("acc", "acc_norm"),
)
