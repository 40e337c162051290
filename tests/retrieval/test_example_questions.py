"""The example company's questions: half answerable with evidence in the handbook, half in each language."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from empu.retrieval.extract.formats import extract

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "helpdesk"


def plain(text: str) -> str:
    return " ".join(text.split())


def test_every_answerable_question_has_its_evidence_in_the_extracted_text() -> None:
    rows = [json.loads(line) for line in (EXAMPLE / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert Counter((row["lang"], row["answerable"]) for row in rows) == dict.fromkeys(
        [("en", True), ("en", False), ("id", True), ("id", False)], 25
    )
    assert len({row["question"] for row in rows}) == 100
    for row in rows:
        if row["answerable"]:
            text = extract(EXAMPLE / "handbook" / row["file"], 10).text.decode()
            assert plain(row["evidence"]) in plain(text), row["id"]
