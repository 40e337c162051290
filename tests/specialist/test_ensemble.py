"""Which members a specialist gets, and what the choice says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from empu.data.rows import Kind, Row
from empu.errors import UsageError
from empu.members.member import log_softmax, mix
from empu.specialist.ensemble import choose_ensemble, label_indices, plan_members
from tests.members.samples import LABELS, TARGETS, TEXTS, HashEncoder

ENCODER = HashEncoder()


def make_row(text: str, label: str) -> Row:
    return Row(Kind.LABEL, {"text": text, "label": label}, "rows.csv", 1, hashlib.sha256(text.encode()).hexdigest())


TRAIN = [make_row(text, LABELS[target]) for text, target in zip(TEXTS, TARGETS, strict=True)]
DEV = [make_row(f"{row.fields['text']} again", str(row.label)) for row in TRAIN[::1]]


def language_model(accuracy: float, rows: Sequence[Row] = DEV) -> np.ndarray:
    """Log-probabilities that are right for a fraction of the rows."""
    rng = np.random.default_rng(0)
    targets = label_indices(rows, LABELS)
    wrong = rng.random(len(rows)) > accuracy
    answers = np.where(wrong, (targets + 1) % len(LABELS), targets)
    scores = rng.standard_normal((len(rows), len(LABELS)))
    scores[np.arange(len(rows)), answers] += 6
    return np.asarray(log_softmax(scores))


def test_a_weak_language_model_gets_help() -> None:
    table = language_model(0.6)
    ensemble, reason = choose_ensemble(plan_members("auto", [ENCODER]), TRAIN, DEV, LABELS, table, (1.0, 0.0))
    assert ensemble is not None
    assert "mixture" in reason
    texts = [row.question() for row in DEV]
    tables = {"lm": table} | {name: member.log_probabilities(texts) for name, member in ensemble.members.items()}
    targets = label_indices(DEV, LABELS)
    assert (mix(tables, ensemble.weights).argmax(axis=1) == targets).mean() > 0.95
    assert ensemble.fitted_on["folds"] == 5
    assert set(ensemble.without) == (set(ensemble.weights) if len(ensemble.weights) > 1 else set())


def test_a_perfect_language_model_stays_alone() -> None:
    ensemble, reason = choose_ensemble(
        plan_members("auto", [ENCODER]), TRAIN, DEV, LABELS, 20 * language_model(1.0), None
    )
    assert ensemble is None
    assert "do not make it better" in reason


def test_with_few_validation_rows_only_named_members_are_added() -> None:
    few = DEV[:6]
    table = language_model(0.5, few)
    ensemble, reason = choose_ensemble(plan_members("auto", [ENCODER]), TRAIN, few, LABELS, table, None)
    assert ensemble is None
    assert "6 validation rows are too few" in reason
    ensemble, _ = choose_ensemble(plan_members("lm,tfidf", [ENCODER]), TRAIN, few, LABELS, table, None)
    assert ensemble is not None
    assert set(ensemble.members) == {"tfidf"}


def test_members_can_be_fitted_without_validation_rows_and_with_one_row_a_label() -> None:
    rows = [make_row("a", "delivery"), make_row("b", "refund"), make_row("c", "tool")]
    ensemble, _ = choose_ensemble(
        plan_members("lm,tfidf,embeddings", [ENCODER]), rows, [], LABELS, np.zeros((0, len(LABELS))), None
    )
    assert ensemble is not None
    assert set(ensemble.weights) == {"lm", "tfidf", "embeddings"}


def test_rows_of_labels_that_nobody_trained_have_no_part() -> None:
    rows = [*DEV, make_row("unheard of", "other")]
    table = np.concatenate([language_model(0.6), np.full((1, len(LABELS)), np.log(1 / 3))])
    ensemble, _ = choose_ensemble(plan_members("lm,tfidf", []), [*TRAIN, rows[-1]], rows, LABELS, table, None)
    assert ensemble is not None
    assert ensemble.fitted_on["validation_rows"] == len(DEV)
    assert ensemble.fitted_on["training_rows"] == len(TRAIN)


def test_the_same_rows_give_the_same_members() -> None:
    plan = plan_members("lm,tfidf,embeddings", [ENCODER])
    first, second = (choose_ensemble(plan, TRAIN, DEV, LABELS, language_model(0.6), None)[0] for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.weights == second.weights
    for name, member in first.members.items():
        assert all(
            np.array_equal(a, b)
            for a, b in zip(member.tensors().values(), second.members[name].tensors().values(), strict=True)
        )


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("lm,oracle", "no member 'oracle'"),
        ("tfidf", "needs lm"),
        ("lm,embeddings", "no text encoder is installed"),
        ("", "no member ''"),
    ],
)
def test_impossible_lists_are_one_sentence(requested: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_members(requested, [])


def test_auto_uses_the_encoder_that_is_installed() -> None:
    assert plan_members("auto", []).names == ("lm", "tfidf")
    assert plan_members("auto", [ENCODER]).names == ("lm", "tfidf", "embeddings")
    assert plan_members("auto", []).to_json() != plan_members("auto", [ENCODER]).to_json()
    assert plan_members("auto", [HashEncoder("a@1")]).to_json() != plan_members("auto", [ENCODER]).to_json()
