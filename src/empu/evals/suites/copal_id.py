"""COPAL-ID: causes and effects in Indonesian everyday life (Wibowo et al. 2024)."""

from __future__ import annotations

from empu.evals.suites.base import MultipleChoiceSuite, Question, Record

CONNECTORS = {"cause": "karena", "effect": "maka"}


def parse(record: Record) -> Question:
    """Read premise, choice1, choice2, question (cause or effect) and label."""
    premise = record["premise"]
    choices = tuple(_begin_in_lower_case(record[name]) for name in ("choice1", "choice2"))
    correct = int(record["label"])
    text = f"{premise.strip()[:-1]} {CONNECTORS[record['question']]}"
    return Question(text, choices[correct], choices, (correct,), cluster=premise)


def _begin_in_lower_case(text: str) -> str:
    return text[0].lower() + text[1:]


def _suite(name: str, about: str, files: tuple[str, ...]) -> MultipleChoiceSuite:
    return MultipleChoiceSuite(
        name=name,
        about=about,
        source="haryoaw/COPAL",
        licence="CC BY-SA 4.0",
        fields="premise, choice1, choice2, question and label",
        parse=parse,
        files=files,
        folders=("copal_id",),
    )


COPAL_ID = _suite("copal_id", "causes and effects, Indonesian", ("test.csv", "test_copal.csv", "*standard*"))
COPAL_ID_COLLOQUIAL = _suite("copal_id_colloquial", "causes and effects, colloquial Indonesian", ("*colloquial*",))
