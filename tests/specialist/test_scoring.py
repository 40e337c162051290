"""Calibration and the sentence of the comparison."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from empu.evals.metrics import accuracy, mcnemar
from empu.evals.systems import System, calibrate, compare
from empu.text.task import Task


def test_calibration_makes_confidences_true() -> None:
    random = np.random.default_rng(0)
    right = random.random(4000) < 0.7
    probabilities = np.where(right, random.beta(9, 1, 4000), random.beta(6, 2, 4000))
    fitted = calibrate(probabilities.tolist(), right.tolist())
    assert fitted is not None
    task = Task("label", labels=("a", "b"), calibration=fitted)
    said = np.array([task.confidence(p) for p in probabilities])
    for low in np.arange(0.3, 0.95, 0.1):
        inside = (said >= low) & (said < low + 0.1)
        if inside.sum() > 200:
            assert abs(said[inside].mean() - right[inside].mean()) < 0.06
    assert (np.argsort(said, kind="stable") == np.argsort(probabilities, kind="stable")).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=30, max_size=80))
def test_calibration_always_gives_probabilities(pairs: list[tuple[float, bool]]) -> None:
    fitted = calibrate([p for p, _ in pairs], [right for _, right in pairs])
    task = Task("label", labels=("a", "b"), calibration=fitted)
    for p in (0.0, 1e-9, 0.5, 1 - 1e-9, 1.0):
        assert 0 <= task.confidence(p) <= 1


def test_too_little_is_not_calibrated_on() -> None:
    assert calibrate([0.5] * 29, [True, False] * 14 + [True]) is None
    assert calibrate([0.5] * 60, [True] * 60) is None


def system(name: str, correct: list[bool]) -> System:
    return System(name, ("a",) * len(correct), tuple(correct), {"accuracy": accuracy(correct)}, 1.0, 1)


@pytest.mark.parametrize(
    ("rival", "ours", "words"),
    [(90, 50, "The linear wins"), (50, 90, "The specialist wins"), (70, 71, "cannot be told apart")],
)
def test_the_first_sentence_says_who_wins(rival: int, ours: int, words: str) -> None:
    one = system("linear", [i < rival for i in range(100)])
    two = system("router", [i < ours for i in range(100)])
    comparison = compare([one, two])
    assert comparison.sentence().startswith(words) or words in comparison.sentence()
    assert comparison.p_values["linear"] == mcnemar(two.correct, one.correct)


def test_a_rival_that_surely_wins_is_named_before_a_better_one_that_may_not() -> None:
    ours = system("router", [i < 140 for i in range(200)])
    best = system("best", [not 60 <= i < 109 for i in range(200)])
    sure = system("sure", [i < 150 for i in range(200)])
    comparison = compare([best, sure, ours])
    assert best.metrics["accuracy"].value > sure.metrics["accuracy"].value
    assert comparison.p_values["best"] > 0.05 > comparison.p_values["sure"]
    assert comparison.sentence().startswith("The sure wins")
