"""95 % intervals of means and of paired differences, also where rows share a passage or document.

Shares of up to 299 independent rows have Wilson's score interval, their paired differences Newcombe's. Everything else
has a bootstrap over clusters: rows of one passage are drawn together. A cluster of its own for each row is the plain
bootstrap over rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from empu.evals.metrics import accuracy
from empu.ledger.records import Metric

BOOTSTRAP_SAMPLES = 2000
FEW_ROWS = 300
"""Below this, a bootstrap of shares is too narrow."""
_DRAWS_AT_ONCE = 4_000_000

Floats = npt.NDArray[np.float64]


def mean_with_interval(values: Sequence[float], clusters: Sequence[str] = ()) -> Metric:
    """Return the mean of values from 0 to 1 with its 95 % interval. ``clusters``: the cluster of each row."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("no rows")
    is_share = bool(np.isin(array, (0.0, 1.0)).all())
    if is_share and (array.min() == array.max() or (len(array) < FEW_ROWS and not is_clustered(clusters))):
        return accuracy([value == 1.0 for value in values])
    low, high = bootstrap_interval(array, clusters)
    return Metric(float(array.mean()), low, high, len(array))


def bootstrap_interval(values: Floats, clusters: Sequence[str] = (), *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean; clusters are drawn with replacement."""
    sums, sizes = cluster_sums(values, clusters)
    generator = np.random.default_rng(seed)
    means: list[Floats] = []
    at_once = max(1, _DRAWS_AT_ONCE // len(sums))
    for start in range(0, BOOTSTRAP_SAMPLES, at_once):
        drawn = generator.integers(0, len(sums), (min(at_once, BOOTSTRAP_SAMPLES - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def standard_error(values: Floats, clusters: Sequence[str] = ()) -> float:
    """Return the standard error of the mean, robust to dependence within clusters (Liang and Zeger 1986)."""
    sums, sizes = cluster_sums(values, clusters)
    residuals = sums - sizes * values.mean()
    correction = len(sums) / max(1, len(sums) - 1)
    return float(math.sqrt(correction * float((residuals**2).sum())) / len(values))


def paired_difference_interval(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str] = ()
) -> tuple[float, float]:
    """Return the 95 % interval of mean(first) - mean(second) on the same rows."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    differences = a - b
    is_share = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    few = len(a) < FEW_ROWS and not is_clustered(clusters)
    if is_share and (few or not differences.any()):
        return newcombe_interval(a == 1.0, b == 1.0)
    return bootstrap_interval(differences, clusters)


def newcombe_interval(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the score interval of a paired difference of shares (Newcombe 1998, method 10)."""
    one, two = accuracy(first.tolist()), accuracy(second.tolist())
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    totals = (both + only_first, only_second + neither, both + only_second, only_first + neither)
    product = math.prod(totals)
    numerator = float(both * neither - only_first * only_second)
    if numerator > 0:
        numerator = max(0.0, numerator - len(first) / 2)
    phi = numerator / math.sqrt(product) if product else 0.0
    below_one, above_one = one.value - one.low, one.high - one.value
    below_two, above_two = two.value - two.low, two.high - two.value
    difference = one.value - two.value
    low = math.sqrt(max(0.0, below_one**2 - 2 * phi * below_one * above_two + above_two**2))
    high = math.sqrt(max(0.0, above_one**2 - 2 * phi * above_one * below_two + below_two**2))
    return max(-1.0, difference - low), min(1.0, difference + high)


def is_clustered(clusters: Sequence[str]) -> bool:
    """Whether some rows share a cluster."""
    return len(set(clusters)) < len(clusters)


def cluster_sums(values: Floats, clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the sum of the values and the number of rows of each cluster."""
    if not is_clustered(clusters):
        return values, np.ones(len(values))
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)
