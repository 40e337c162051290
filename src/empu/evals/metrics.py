"""Scores with 95 % intervals, and the test whether two systems differ on the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from empu.ledger.records import Metric

RESAMPLES = 1000


def accuracy(correct: Sequence[bool]) -> Metric:
    """Share of right answers with Wilson's score interval (Wilson 1927)."""
    n = len(correct)
    if n == 0:
        raise ValueError("no rows")
    share = sum(correct) / n
    return Metric(share, *_wilson(share, n), n)


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def macro_f1(truth: Sequence[str], answers: Sequence[str], *, seed: int = 0) -> Metric:
    """Unweighted mean of the F1 of each label in ``truth``; percentile bootstrap over rows, see :func:`_interval`."""
    labels = sorted(set(truth))
    number = {label: i for i, label in enumerate(labels)}
    y = np.array([number[label] for label in truth])
    p = np.array([number.get(label, len(labels)) for label in answers])
    random = np.random.default_rng(seed)
    samples = [_macro_f1(y[rows], p[rows], len(labels)) for rows in _resamples(len(y), random)]
    return _interval(_macro_f1(y, p, len(labels)), samples, len(y))


def mean(values: Sequence[float], *, seed: int = 0) -> Metric:
    """Mean of values from 0 to 1; percentile bootstrap over rows, see :func:`_interval`."""
    array = np.array(values, dtype=np.float64)
    random = np.random.default_rng(seed)
    samples = [float(array[rows].mean()) for rows in _resamples(len(array), random)]
    return _interval(float(array.mean()), samples, len(array))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided p of McNemar's exact test that two systems are right equally often on the same rows."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    n, k = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = term = 1  # in whole numbers, which outgrow floats: n over i, and the sum of these
    for i in range(k):
        term = term * (n - i) // (i + 1)
        tail += term
    share: float = tail / (1 << n)
    return min(1.0, 2 * share)


def token_f1(truth: str, answer: str) -> float:
    """Overlap of words, regardless of case (the F1 of SQuAD, Rajpurkar et al. 2016, without its article rule)."""
    wanted, given = truth.casefold().split(), answer.casefold().split()
    if not wanted or not given:
        return float(wanted == given)
    left = list(wanted)
    same = 0
    for word in given:
        if word in left:
            left.remove(word)
            same += 1
    if same == 0:
        return 0.0
    precision, recall = same / len(given), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _macro_f1(truth: np.ndarray, answers: np.ndarray, n_labels: int) -> float:
    """Labels that do not occur in this sample of the truth are left out."""
    hits = np.bincount(truth[truth == answers], minlength=n_labels)[:n_labels]
    wanted = np.bincount(truth, minlength=n_labels)[:n_labels]
    given = np.bincount(answers, minlength=n_labels + 1)[:n_labels]
    present = wanted > 0
    scores: list[float] = (2 * hits[present] / (wanted + given)[present]).tolist()
    return sum(scores) / len(scores)


def _interval(value: float, samples: Sequence[float], rows: int) -> Metric:
    """The percentiles of ``samples``. Where all rows agree they say nothing of other rows: then Wilson's interval for
    that share, which is the widest that values from 0 to 1 ask for.
    """
    low, high = np.percentile(samples, [2.5, 97.5])
    if low < high:
        return Metric(value, float(low), float(high), rows)
    return Metric(value, *_wilson(value, rows), rows)


def _resamples(n: int, random: np.random.Generator) -> list[np.ndarray]:
    return [random.integers(0, n, n) for _ in range(RESAMPLES)]
