"""Metrics with 95 % confidence intervals, and a paired test of two systems on the same rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from empu.ledger.records import Metric

BOOTSTRAP_SAMPLES = 1000
SMALLEST_P = 0.0001
"""Smaller p-values are not told apart."""
FEW_DECIMALS_FROM = 0.01
"""From here on, p-values are shown with two decimals instead of four."""


def accuracy(correct: Sequence[bool]) -> Metric:
    """Return the fraction of correct answers with Wilson's score interval (Wilson 1927)."""
    n = len(correct)
    if n == 0:
        raise ValueError("no rows")
    fraction = sum(correct) / n
    return Metric(fraction, *_wilson_interval(fraction, n), n)


def _wilson_interval(fraction: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054  # 97.5 % quantile of the normal distribution
    centre = (fraction + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def macro_f1(truth: Sequence[str], answers: Sequence[str], *, seed: int = 0) -> Metric:
    """Return the unweighted mean of the F1 of each label in ``truth``, with a bootstrap interval over rows."""
    labels = sorted(set(truth))
    index = {label: i for i, label in enumerate(labels)}
    true = np.array([index[label] for label in truth])
    predicted = np.array([index.get(label, len(labels)) for label in answers])
    samples = [_macro_f1(true[rows], predicted[rows], len(labels)) for rows in _bootstrap_rows(len(true), seed)]
    return _with_interval(_macro_f1(true, predicted, len(labels)), samples, len(true))


def mean(values: Sequence[float], *, seed: int = 0) -> Metric:
    """Return the mean of values from 0 to 1, with a bootstrap interval over rows."""
    array = np.array(values, dtype=np.float64)
    samples = [float(array[rows].mean()) for rows in _bootstrap_rows(len(array), seed)]
    return _with_interval(float(array.mean()), samples, len(array))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the two-sided p-value of McNemar's exact test that two systems are equally accurate on the same rows."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    n, k = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = term = 1  # the binomial coefficient of n and i, and their sum: integers, since floats would overflow
    for i in range(k):
        term = term * (n - i) // (i + 1)
        tail += term
    probability: float = tail / (1 << n)
    return min(1.0, 2 * probability)


def p_text(p: float) -> str:
    """Return a p-value as text, such as ``p = 0.13``, rounded like on the page: half away from zero."""
    if p < SMALLEST_P:
        return f"p < {SMALLEST_P}"
    step = Decimal("0.0001") if p < FEW_DECIMALS_FROM else Decimal("0.01")
    return f"p = {Decimal(repr(float(p))).quantize(step, ROUND_HALF_UP)}"


def token_f1(truth: str, answer: str) -> float:
    """Return the word overlap, ignoring case (the F1 of SQuAD, Rajpurkar et al. 2016, without its article rule)."""
    true_words, answer_words = truth.casefold().split(), answer.casefold().split()
    if not true_words or not answer_words:
        return float(true_words == answer_words)
    common = (Counter(true_words) & Counter(answer_words)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(answer_words), common / len(true_words)
    return 2 * precision * recall / (precision + recall)


def _macro_f1(truth: np.ndarray, answers: np.ndarray, n_labels: int) -> float:
    """Labels that do not occur in this sample of the truth are excluded."""
    correct = np.bincount(truth[truth == answers], minlength=n_labels)[:n_labels]
    true = np.bincount(truth, minlength=n_labels)[:n_labels]
    predicted = np.bincount(answers, minlength=n_labels + 1)[:n_labels]
    present = true > 0
    scores: list[float] = (2 * correct[present] / (true + predicted)[present]).tolist()
    return sum(scores) / len(scores)


def _with_interval(value: float, samples: Sequence[float], rows: int) -> Metric:
    """Return the metric with the percentiles of its bootstrap samples as its interval.

    If all samples are equal, they say nothing about other rows. Then the interval is Wilson's for that fraction, the
    widest for values from 0 to 1.
    """
    low, high = np.percentile(samples, [2.5, 97.5])
    if low < high:
        return Metric(value, float(low), float(high), rows)
    return Metric(value, *_wilson_interval(value, rows), rows)


def _bootstrap_rows(n: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, n, n) for _ in range(BOOTSTRAP_SAMPLES)]
