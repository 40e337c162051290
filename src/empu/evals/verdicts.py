"""Is one model better than another on the same rows? Paired differences, tests, and one sentence.

``tied`` means: no significant difference, and the interval of the difference lies within a margin. Where it does not,
the rows are too few, and the sentence says how many more would decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from statistics import NormalDist

import numpy as np

from empu.evals.intervals import is_clustered, paired_difference_interval, standard_error
from empu.evals.metrics import mcnemar, p_text
from empu.evals.power import POWER, SIGNIFICANCE_LEVEL, rows_for_margin, rows_for_variance

DEFAULT_MARGIN = 0.03
"""Differences up to 3 points count as a tie."""


class Outcome(Enum):
    """Conclusion about the first of two models."""

    BETTER = "better"
    WORSE = "worse"
    TIED = "tied"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two models on the same rows. The difference is first minus second."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    rows: int
    variance: float
    """Variance of a row's difference, with the effect of clusters."""
    p_value: float
    test: str
    """Name of the test."""
    adjusted_p: float
    """The p-value after Holm's correction for several comparisons."""
    margin: float = DEFAULT_MARGIN

    @property
    def outcome(self) -> Outcome:
        if self.adjusted_p < SIGNIFICANCE_LEVEL:
            return Outcome.BETTER if self.difference > 0 else Outcome.WORSE
        return Outcome.TIED if max(-self.low, self.high) <= self.margin else Outcome.UNDECIDED

    @property
    def more_rows(self) -> int:
        """About how many more rows would decide: show this difference, or a tie, at 80 % power."""
        variance = self.variance or 1 / self.rows  # no two answers differed: at most about one row in n
        needed = []
        if self.difference:
            needed.append(rows_for_variance(self.difference, variance, POWER))
        if abs(self.difference) < self.margin:
            needed.append(rows_for_margin(self.margin - abs(self.difference), variance))
        return max(1, min(needed) - self.rows)

    def sentence(self, first: str, second: str) -> str:
        """Return the conclusion in one sentence."""
        scores = f"{100 * self.first:.1f} % against {100 * self.second:.1f} %"
        interval = f"{100 * self.difference:+.1f} points, 95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}"
        p = f"{self.test} {p_text(self.adjusted_p)}"
        facts = f"{scores} ({interval}; {p}; {self.rows:,} rows)"
        if self.outcome is Outcome.TIED:
            return f"{first} and {second} are tied within {100 * self.margin:.0f} points: {facts}."
        if self.outcome is Outcome.UNDECIDED:
            return f"{first} and {second}: about {_round(self.more_rows):,} more rows would decide; now {facts}."
        return f"{first} is {self.outcome.value} than {second}: {facts}."


def compare_paired(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[str] = (),
    *,
    margin: float = DEFAULT_MARGIN,
) -> PairedComparison:
    """Compare two models by their scores on the same rows, in the same order.

    Independent rows that are right or wrong are compared by McNemar's exact test, others by the difference and its
    cluster-robust standard error.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) != len(b) or not len(a):
        raise ValueError("the models were not scored on the same rows")
    differences = a - b
    error = standard_error(differences, clusters)
    is_share = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    if is_share and not is_clustered(clusters):
        p, test = mcnemar((a == 1.0).tolist(), (b == 1.0).tolist()), "exact McNemar"
    else:
        z = abs(float(differences.mean())) / error if error else 0.0
        p, test = 2 * (1 - NormalDist().cdf(z)), "clustered z" if is_clustered(clusters) else "paired z"
    low, high = paired_difference_interval(first, second, clusters)
    return PairedComparison(
        float(a.mean()),
        float(b.mean()),
        float(differences.mean()),
        low,
        high,
        len(a),
        error**2 * len(a),
        p,
        test,
        p,
        margin,
    )


def holm(comparisons: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Adjust the p-values for the number of comparisons (Holm 1979). The order stays."""
    order = sorted(range(len(comparisons)), key=lambda i: comparisons[i].p_value)
    adjusted, highest = [0.0] * len(comparisons), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(comparisons) - rank) * comparisons[i].p_value))
        adjusted[i] = highest
    return [replace(comparison, adjusted_p=p) for comparison, p in zip(comparisons, adjusted, strict=True)]


def _round(count: int) -> int:
    """Round to two digits: the figure is an estimate."""
    step: int = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / step) * step
