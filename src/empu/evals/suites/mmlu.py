"""MMLU: exam questions of 57 subjects (Hendrycks et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empu.evals.suites.base import MultipleChoiceSuite, Question, Record
from empu.evals.suites.files import read_cells, read_records

LETTERS = ("A", "B", "C", "D")


def lettered_question(text: str, options: list[str], correct: int, group: str) -> Question:
    """Return a question whose four options stand in the prompt; the answers are their letters."""
    if len(options) != len(LETTERS):
        raise ValueError(f"{len(options)} options")
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    prompt = "\n".join([text.strip(), *lines, "Answer:"])
    return Question(prompt, LETTERS[correct], LETTERS, (correct,), group=group)


def parse(record: Record) -> Question:
    """Read question, choices and answer (0 to 3, or a letter), and the subject."""
    answer = record["answer"]
    correct = LETTERS.index(answer) if answer in LETTERS else int(answer)
    return lettered_question(record["question"], list(record["choices"]), correct, record["subject"])


def read(path: Path) -> Iterator[Record]:
    """Read a file of one subject (CSV, with or without a header) or of all (JSON Lines, Parquet)."""
    if path.suffix != ".csv":
        yield from read_records(path)
        return
    subject = path.stem.removesuffix("_test").removesuffix("_dev").removesuffix("_val")
    for cells in read_cells(path):
        if cells[:1] != ["question"]:
            yield {"question": cells[0], "choices": cells[1:5], "answer": cells[5], "subject": subject}


def describe(subject: str) -> str:
    """Return the line before the examples."""
    return f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"


MMLU = MultipleChoiceSuite(
    name="mmlu",
    about="exam questions of 57 subjects",
    source="cais/mmlu",
    licence="MIT",
    fields="question, four choices, answer and subject",
    parse=parse,
    read=read,
    files=("test/*_test.csv", "test.jsonl", "all/test-*.parquet", "test-*.parquet", "*_test.csv"),
    folders=("mmlu", "data"),
    shot_files=("dev/*_dev.csv", "dev.jsonl", "all/dev-*.parquet", "dev-*.parquet", "*_dev.csv"),
    shots=5,
    first_shots=True,
    describe=describe,
)
