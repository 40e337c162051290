"""The classifier: a mixture of all members, and a cascade that asks the language model last."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from empu.errors import ConfigError
from empu.members.classifier import LabelClassifier
from empu.members.ensemble import CascadeStage, Ensemble
from empu.members.fitting import fit_tfidf
from tests.members.samples import LABELS, TARGETS, TEXTS, ScriptedModel, as_language_model

SURE, UNSURE = "my money back please", "zzz"


def ensemble_of_tfidf(**changes: object) -> Ensemble:
    tfidf = fit_tfidf(TEXTS, TARGETS, len(LABELS))
    ensemble = Ensemble(LABELS, {"tfidf": tfidf}, {"lm": 1.0, "tfidf": 1.0}, (CascadeStage({"tfidf": 1.0}, 0.9),))
    return replace(ensemble, **changes)  # type: ignore[arg-type]


def test_the_mixture_multiplies_probabilities() -> None:
    model = ScriptedModel({UNSURE: [0.2, 0.3, 0.5]})
    ensemble = ensemble_of_tfidf()
    ranked = next(LabelClassifier(as_language_model(model), ensemble).classify([UNSURE], count=3))
    tfidf = np.exp(ensemble.members["tfidf"].log_probabilities([UNSURE])[0])
    product = tfidf * np.array([0.2, 0.3, 0.5])
    expected = dict(zip(LABELS, product / product.sum(), strict=True))
    assert {item.label: pytest.approx(item.confidence) for item in ranked} == expected
    assert [item.confidence for item in ranked] == sorted((item.confidence for item in ranked), reverse=True)


def test_the_fast_mode_asks_the_language_model_only_where_the_cheap_member_is_unsure() -> None:
    model = ScriptedModel({UNSURE: [0.01, 0.01, 0.98]})
    texts = [SURE, UNSURE, TEXTS[25], UNSURE, *TEXTS]
    fast = LabelClassifier(as_language_model(model), ensemble_of_tfidf(), fast=True)
    answers = [ranked[0].label for ranked in fast.classify(texts)]
    assert answers[:4] == ["refund", "tool", "delivery", "tool"]
    assert model.asked == [UNSURE, UNSURE]
    model.asked.clear()
    accurate = LabelClassifier(as_language_model(model), ensemble_of_tfidf())
    assert [ranked[0].label for ranked in accurate.classify(texts)] == answers
    assert model.asked == texts


def test_a_batch_gives_the_same_bits_as_single_texts() -> None:
    model = as_language_model(ScriptedModel({UNSURE: [0.2, 0.3, 0.5]}))
    texts = [*TEXTS, UNSURE] * 2  # more than one batch
    for fast in (False, True):
        classifier = LabelClassifier(model, ensemble_of_tfidf(), fast=fast)
        assert list(classifier.classify(texts, count=2)) == [
            next(classifier.classify([text], count=2)) for text in texts
        ]


def test_confidences_of_the_whole_are_calibrated_by_the_task() -> None:
    model = ScriptedModel({})
    classifier = LabelClassifier(as_language_model(model), ensemble_of_tfidf())
    raw = next(classifier.classify([SURE]))[0].confidence
    model.task = replace(model.task, calibration=(0.5, 0.0))
    calibrated = next(classifier.classify([SURE]))[0].confidence
    assert calibrated == pytest.approx(1 / (1 + math.sqrt((1 - raw) / raw)), rel=1e-3)


def test_a_mixture_without_the_language_model_never_asks_it() -> None:
    model = ScriptedModel({})
    classifier = LabelClassifier(as_language_model(model), ensemble_of_tfidf(weights={"tfidf": 1.0}))
    assert next(classifier.classify([SURE]))[0].label == "refund"
    assert model.asked == []


def test_members_of_other_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="other labels"):
        LabelClassifier(as_language_model(ScriptedModel({})), ensemble_of_tfidf(labels=("a", "b", "c")))
