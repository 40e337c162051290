"""Metrics and intervals against scikit-learn, scipy and published values."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empu.evals import metrics


def test_wilson_interval_equals_published_values() -> None:
    """9 of 10: 0.5958 to 0.9821 (Newcombe 1998's method 3)."""
    score = metrics.accuracy([True] * 9 + [False])
    assert (score.value, score.rows) == (0.9, 10)
    assert math.isclose(score.low, 0.5958, abs_tol=1e-4)
    assert math.isclose(score.high, 0.9821, abs_tol=1e-4)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_the_interval_contains_the_value(correct: list[bool]) -> None:
    score = metrics.accuracy(correct)
    assert 0 <= score.low <= score.value + 1e-12
    assert score.value - 1e-12 <= score.high <= 1


def test_the_interval_contains_the_truth_in_95_percent_of_samples() -> None:
    rng = random.Random(0)
    hits = 0
    for _ in range(1000):
        score = metrics.accuracy([rng.random() < 0.8 for _ in range(60)])
        hits += score.low <= 0.8 <= score.high
    assert 920 <= hits <= 985


labels = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=40)


@settings(max_examples=25)
@given(labels)
def test_macro_f1_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import f1_score

    truth, answers = [a for a, _ in pairs], [b for _, b in pairs]
    expected = f1_score(truth, answers, labels=sorted(set(truth)), average="macro", zero_division=0)
    score = metrics.macro_f1(truth, answers)
    assert math.isclose(score.value, expected, abs_tol=1e-12)
    assert score.low <= score.high


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (5, 1), (10, 10), (3, 20)])
def test_mcnemar_equals_the_binomial_test(only_first: int, only_second: int) -> None:
    from scipy.stats import binomtest

    first = [True] * only_first + [False] * only_second + [True] * 7
    second = [False] * only_first + [True] * only_second + [True] * 7
    n = only_first + only_second
    expected = binomtest(only_first, n).pvalue if n else 1.0
    assert math.isclose(metrics.mcnemar(first, second), expected, rel_tol=1e-9)


def test_token_f1() -> None:
    assert metrics.token_f1("the red house", "The red house") == 1.0
    assert metrics.token_f1("the red house", "a blue car") == 0.0
    assert math.isclose(metrics.token_f1("a b c d", "a b"), 2 * 1 * 0.5 / 1.5)
    assert metrics.token_f1("", "") == 1.0


def test_mcnemar_does_not_overflow_with_thousands_of_rows() -> None:
    right = [True] * 3000
    half = [i % 2 == 0 for i in range(3000)]
    assert metrics.mcnemar(right, half) == pytest.approx(0.0, abs=1e-300)
    assert metrics.mcnemar(half, [not answer for answer in half]) == pytest.approx(1.0)
