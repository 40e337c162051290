"""Weights of a mixture, and thresholds of the cascade."""

from __future__ import annotations

import numpy as np
import pytest

from empu.members.member import log_softmax, mix
from empu.members.weights import accuracy, choose_threshold, fit_weights, log_loss

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 4, 400)


def noisy(signal: float, seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).standard_normal((len(TARGETS), 4))
    scores[np.arange(len(TARGETS)), TARGETS] += signal
    return log_softmax(scores)


def test_weights_minimise_the_log_loss() -> None:
    scipy = pytest.importorskip("scipy.optimize")
    tables = {"first": noisy(1.5, 1), "second": noisy(1.0, 2)}
    weights = fit_weights(tables, TARGETS)
    names = list(tables)

    def loss(values: np.ndarray) -> float:
        prior = float(np.square(values - 0.5).sum()) / 2
        return log_loss(tables, dict(zip(names, values, strict=True)), TARGETS) + prior

    best = scipy.minimize(loss, [1.0, 1.0], bounds=[(0, None)] * 2)
    assert np.allclose([weights[name] for name in names], best.x, atol=1e-3)
    assert accuracy(tables, weights, TARGETS) > max(accuracy(tables, {name: 1.0}, TARGETS) for name in names)


def test_a_member_that_knows_nothing_gets_no_weight() -> None:
    misleading = noisy(1.5, 1)[:, [1, 2, 3, 0]]
    assert set(fit_weights({"good": noisy(2.0, 3), "bad": misleading}, TARGETS)) == {"good"}


def test_without_rows_all_members_have_the_same_weight() -> None:
    empty = np.zeros((0, 4))
    assert fit_weights({"a": empty, "b": empty}, TARGETS[:0]) == {"a": 0.5, "b": 0.5}


def test_the_temperature_makes_confidences_calibrated() -> None:
    overconfident = log_softmax(5 * noisy(1.5, 4))
    weights = fit_weights({"only": overconfident}, TARGETS)
    confidences = np.exp(mix({"only": overconfident}, weights).max(axis=1))
    assert abs(confidences.mean() - accuracy({"only": overconfident}, weights, TARGETS)) < 0.03


def test_the_threshold_is_the_lowest_with_the_allowed_risk() -> None:
    table = noisy(2.0, 5)
    threshold = choose_threshold(table, TARGETS, 0.05)
    assert threshold is not None
    confidences, wrong = np.exp(table.max(axis=1)), table.argmax(axis=1) != TARGETS
    assert wrong[confidences >= threshold].mean() <= 0.05
    lower = np.unique(confidences[confidences < threshold])
    assert all(wrong[confidences >= value].mean() > 0.05 for value in lower)
    assert choose_threshold(table[:20], TARGETS[:20], 0.05) is None
