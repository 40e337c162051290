"""Rows of public suites in the shape in which lm-evaluation-harness gets them from Hugging Face."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from empu.evals.suites.files import read_cells, read_records
from empu.evals.suites.hellaswag import read as read_hellaswag
from empu.evals.suites.openbookqa import parse as parse_openbookqa
from empu.evals.suites.piqa import read as read_piqa

Records = Iterator[dict[str, Any]]


def arc(folder: Path, split: str) -> Records:
    for record in read_records(folder / "arc" / f"{split}.jsonl"):
        question = record["question"]
        choices = {key: [choice[key] for choice in question["choices"]] for key in ("text", "label")}
        yield {"question": question["stem"], "choices": choices, "answerKey": record["answerKey"]}


def hellaswag(folder: Path, split: str) -> Records:
    yield from map(dict, read_hellaswag(folder / "hellaswag" / "hellaswag_val_full.txt.bz2"))


def piqa(folder: Path, split: str) -> Records:
    for record in read_piqa(folder / "piqa" / "valid.jsonl"):
        yield {**record, "label": int(record["label"])}


def openbookqa(folder: Path, split: str) -> Records:
    for record in read_records(folder / "openbookqa" / f"{split}.tsv"):
        question = parse_openbookqa(record)
        choices = {"text": list(question.choices), "label": list("ABCD")[: len(question.choices)]}
        yield {"question_stem": question.text, "choices": choices, "answerKey": record["Answer Key"]}


def mmlu(subject: str) -> Callable[[Path, str], Records]:
    def records(folder: Path, split: str) -> Records:
        for cells in list(read_cells(folder / "mmlu" / split / f"{subject}_{split}.csv"))[1:]:
            yield {"question": cells[0], "choices": cells[1:5], "answer": int(cells[5]), "subject": subject}

    return records


def truthfulqa(folder: Path, split: str) -> Records:
    with (folder / "truthfulqa" / "TruthfulQA.csv").open(encoding="utf-8-sig", newline="") as file:
        for record in csv.DictReader(file):
            right, wrong = (
                [a.strip() for a in record[f"{kind} Answers"].split(";")] for kind in ("Correct", "Incorrect")
            )
            right, wrong = [a for a in right if a], [a for a in wrong if a]
            yield {
                "question": record["Question"],
                "mc1_targets": {"choices": [record["Best Answer"].strip(), *wrong], "labels": [1] + [0] * len(wrong)},
                "mc2_targets": {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)},
            }


def copal_id(folder: Path, split: str) -> Records:
    for record in read_records(folder / "copal_id" / "test.csv"):
        yield {**record, "label": int(record["label"])}


def global_mmlu(language: str) -> Callable[[Path, str], Records]:
    def records(folder: Path, split: str) -> Records:
        for record in read_records(folder / "global_mmlu_lite" / f"global_mmlu_lite_{language}_{split}.jsonl"):
            category = record["metadata"]["subject_category"]
            yield {**record["prompts"][0], "answer": record["label"], "subject_category": category}

    return records


def gsm8k(folder: Path, split: str) -> Records:
    yield from read_records(folder / "gsm8k" / "test.jsonl")


def mgsm(language: str) -> Callable[[Path, str], Records]:
    def records(folder: Path, split: str) -> Records:
        for question, number in read_cells(folder / "mgsm" / f"mgsm_{language}.tsv"):
            yield {"question": question, "answer": None, "answer_number": int(number.replace(",", ""))}

    return records


def write_jsonl(path: Path, records: Records) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
