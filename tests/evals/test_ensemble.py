"""The report of a mixture: members alone, what each adds, the fast mode, and scores by language."""

from __future__ import annotations

import hashlib

import pytest

from empu.data.rows import Kind, Row
from empu.evals.comparison import compare
from empu.evals.ensemble import evaluate_ensemble
from empu.evals.language import group_by_language, guess_language
from empu.members.classifier import LabelClassifier
from empu.members.ensemble import CascadeStage, Ensemble
from empu.members.fitting import fit_tfidf
from tests.members.samples import LABELS, TARGETS, TEXTS, ScriptedModel, as_language_model


def test_the_report_has_each_member_the_whole_and_the_fast_mode() -> None:
    rows = [
        Row(Kind.LABEL, {"text": text, "label": LABELS[target]}, "t", i, hashlib.sha256(text.encode()).hexdigest())
        for i, (text, target) in enumerate(zip(TEXTS, TARGETS, strict=True))
    ]
    wrong = [0.3, 0.3, 0.4]
    model = ScriptedModel(dict.fromkeys(TEXTS, wrong))
    ensemble = Ensemble(
        LABELS,
        {"tfidf": fit_tfidf(TEXTS, TARGETS, len(LABELS))},
        {"lm": 0.2, "tfidf": 1.0},
        (CascadeStage({"tfidf": 1.0}, 0.5),),
        {"lm": {"tfidf": 1.0}, "tfidf": {"lm": 1.0}},
        None,
        {"training_rows": 60, "out_of_fold_accuracy": {"tfidf": 0.9}},
    )
    answered: list[int] = []
    classifier = LabelClassifier(as_language_model(model), ensemble)
    whole, alone, report = evaluate_ensemble("it", classifier, rows, 10, answered.append)
    assert sum(answered) == len(rows)
    assert [system.name for system in alone] == ["TF-IDF + linear SVM", "language model alone"]
    assert whole.main_metric.value == 1.0
    assert alone[1].main_metric.value == pytest.approx(1 / 3)
    assert report.gains == {"lm": 0.0, "tfidf": pytest.approx(2 / 3)}
    assert report.fast is not None
    assert report.fast.main_metric.value == 1.0
    sentences = " ".join(report.sentences())
    for part in ("TF-IDF +66.7", "With --fast: 100.0 %", "5-fold cross-validation", "Indonesian (20 test rows"):
        assert part in sentences
    assert report.to_json()["sentences"] == report.sentences()
    assert (
        "specialist wins" in compare([*alone, whole]).sentence()
        or "No significant" in compare([*alone, whole]).sentence()
    )


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("where is my parcel", "English"),
        ("barang saya belum sampai juga kak", "Indonesian"),
        ("BX-20", None),
        ("", None),
    ],
)
def test_languages_are_told_by_frequent_words(text: str, language: str | None) -> None:
    assert guess_language(text) == language


def test_texts_of_one_language_or_of_unknown_ones_are_not_grouped() -> None:
    english, indonesian = ["where is my parcel"] * 30, ["barang saya belum sampai"] * 25
    assert {name: len(rows) for name, rows in group_by_language([*english, *indonesian]).items()} == {
        "English": 30,
        "Indonesian": 25,
    }
    assert group_by_language(english) == {}
    assert group_by_language([*english, *indonesian[:5]]) == {}
    assert group_by_language([*english, *indonesian, *["Wo ist mein Paket"] * 30]) == {}
