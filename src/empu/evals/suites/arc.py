"""ARC: grade-school science questions (Clark et al. 2018), easy and challenge."""

from __future__ import annotations

from collections.abc import Mapping

from empu.evals.suites.base import MultipleChoiceSuite, Question, Record


def parse(record: Record) -> Question:
    """Read the original shape (question.stem, a list of choices) or that of Hugging Face (choices.text, .label)."""
    question = record["question"]
    choices = record["choices"] if isinstance(question, str) else question["choices"]
    if isinstance(choices, Mapping):
        texts, labels = list(choices["text"]), list(choices["label"])
    else:
        texts, labels = [choice["text"] for choice in choices], [choice["label"] for choice in choices]
    correct = labels.index(record["answerKey"])
    stem = question if isinstance(question, str) else question["stem"]
    return Question(f"Question: {stem}\nAnswer:", texts[correct], tuple(texts), (correct,))


def _suite(
    name: str, about: str, label: str, files: tuple[str, ...] = (), folders: tuple[str, ...] = ()
) -> MultipleChoiceSuite:
    return MultipleChoiceSuite(
        name=name,
        about=about,
        source="allenai/ai2_arc",
        licence="CC BY-SA 4.0",
        fields="question, choices (text, label) and answerKey",
        parse=parse,
        files=(f"{label}-Test.jsonl", f"{label}/test-*.parquet", *files),
        folders=(name, label, *folders),
        shot_files=(f"{label}-Train.jsonl", f"{label}/train-*.parquet"),
        metrics=("acc", "acc_norm"),
    )


ARC_EASY = _suite("arc_easy", "science questions of grades 3 to 9", "ARC-Easy")
ARC_CHALLENGE = _suite(
    "arc_challenge", "science questions that retrieval cannot answer", "ARC-Challenge", ("test.jsonl",), ("arc",)
)
