"""Global MMLU Lite: MMLU questions in other languages, translated by people (Singh et al. 2024)."""

from __future__ import annotations

from empu.evals.suites.base import MultipleChoiceSuite, Question, Record
from empu.evals.suites.mmlu import LETTERS, lettered_question

LANGUAGES = ("ar", "bn", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "pt", "sw", "yo", "zh")
OPTIONS = ("option_a", "option_b", "option_c", "option_d")


def parse(record: Record) -> Question:
    """Read the shape of Hugging Face, or that of SEA-HELM (prompts, label, metadata)."""
    content = record["prompts"][0] if "prompts" in record else record
    letter = record["label"] if "prompts" in record else record["answer"]
    category = record.get("metadata", record)["subject_category"]
    options = [content[option] for option in OPTIONS]
    return lettered_question(content["question"], options, LETTERS.index(letter), category)


def _suite(language: str) -> MultipleChoiceSuite:
    return MultipleChoiceSuite(
        name=f"global_mmlu_lite_{language}",
        about=f"exam questions, language: {language}",
        source="CohereLabs/Global-MMLU-Lite",
        licence="Apache-2.0",
        fields="question, option_a to option_d, answer and subject_category",
        parse=parse,
        files=(f"*_{language}_test.jsonl", f"{language}/test-*.parquet", "test.jsonl", "test-*.parquet"),
        folders=("global_mmlu_lite",),
        shot_files=(f"*_{language}_dev.jsonl", f"{language}/dev-*.parquet", "dev.jsonl", "dev-*.parquet"),
    )


GLOBAL_MMLU_LITE = tuple(_suite(language) for language in LANGUAGES)
