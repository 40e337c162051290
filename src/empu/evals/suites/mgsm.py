"""MGSM: 250 problems of GSM8K in other languages (Shi et al. 2022), answered directly."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

from empu.evals.suites.base import GenerationSuite, Question, Record
from empu.evals.suites.files import read_cells, read_records
from empu.evals.suites.numbers import last_number

WORDS = {
    "bn": ("প্রশ্ন: ", "Answer:"),
    "de": ("Frage: ", "Antwort:"),
    "en": ("Question: ", "Answer:"),
    "es": ("Pregunta: ", "Respuesta:"),
    "fr": ("Question : ", "Réponse :"),
    "ja": ("問題： ", "Answer:"),
    "ru": ("Задача: ", "Answer:"),
    "sw": ("Swali: ", "Answer:"),
    "te": ("ప్రశ్న: ", "Answer:"),
    "th": ("โจทย์: ", "Answer:"),
    "zh": ("问题： ", "Answer:"),
}
"""Language -> words before question and answer."""
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def read(path: Path) -> Iterator[Record]:
    """Read the original TSV (question, number) or records with question and answer_number."""
    if path.suffix != ".tsv":
        yield from read_records(path)
        return
    for cells in read_cells(path):
        yield {"question": cells[0], "answer_number": cells[1]}


def normalise(text: str) -> str:
    """Return the text in lower case, without punctuation."""
    return text.lower().translate(_WITHOUT_PUNCTUATION)


def _suite(language: str) -> GenerationSuite:
    before_question, before_answer = WORDS[language]

    def parse(record: Record) -> Question:
        return Question(f"{before_question}{record['question']}\n{before_answer}", str(record["answer_number"]))

    return GenerationSuite(
        name=f"mgsm_{language}",
        about=f"arithmetic in words, language: {language}",
        source="https://github.com/google-research/url-nlp",
        licence="CC BY-SA 4.0",
        fields="question and answer_number",
        parse=parse,
        read=read,
        files=(f"mgsm_{language}.tsv", f"{language}/test-*.parquet", "test.jsonl"),
        folders=("mgsm",),
        delimiter="",
        stop=(before_question.rstrip(" "), "</s>", "<|im_end|>"),
        extract={"exact_match": str.strip, "flexible_extract": last_number},
        normalise=normalise,
        metrics=("flexible_extract", "exact_match"),
    )


MGSM = tuple(_suite(language) for language in WORDS)
