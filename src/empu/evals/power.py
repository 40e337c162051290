"""How many rows a comparison needs, before it runs.

Two models on the same rows differ in a share of them (one right, the other wrong). The test looks at these discordant
rows only, so their share decides. Formulas: Connor 1987 for McNemar's test, with a row allowance for the exact test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

SIGNIFICANCE_LEVEL = 0.05
POWER = 0.8
_Z_ALPHA = NormalDist().inv_cdf(1 - SIGNIFICANCE_LEVEL / 2)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What the rows at hand can show, for one share of discordant rows."""

    discordant: float
    rows: int
    detectable: float
    """The smallest difference that these rows find at 80 % power."""
    needed: int
    """Rows that find ``difference`` at 80 % power."""
    for_tie: int
    """Rows after which two equal models read as tied within the margin."""


def rows_needed(difference: float, discordant: float, power: float = POWER) -> int:
    """Return the rows at which McNemar's exact test finds ``difference`` with this power.

    ``discordant`` is the share of rows on which exactly one model is right; it is at least the difference.
    """
    difference = abs(difference)
    if not 0 < difference <= discordant <= 1:
        raise ValueError("the difference must be positive, and at most the share of discordant rows")
    z_beta = NormalDist().inv_cdf(power)
    root = _Z_ALPHA * math.sqrt(discordant) + z_beta * math.sqrt(discordant - difference**2)
    return math.ceil((root / difference) ** 2 + 1 / difference)


def detectable_difference(rows: int, discordant: float, power: float = POWER) -> float:
    """Return the smallest difference that ``rows`` find with this power; 1 if even the largest is not found."""
    low, high = 0.0, discordant
    if rows_needed(high, discordant, power) > rows:
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if middle > 0 and rows_needed(middle, discordant, power) <= rows:
            high = middle
        else:
            low = middle
    return high


def rows_for_variance(difference: float, variance: float, power: float = POWER) -> int:
    """Return the rows at which a paired difference with this variance of a row is found."""
    return math.ceil(((_Z_ALPHA + NormalDist().inv_cdf(power)) / abs(difference)) ** 2 * variance)


def rows_for_margin(distance: float, variance: float) -> int:
    """Return the rows at which the interval reaches ``distance`` from the observed difference."""
    return math.ceil((_Z_ALPHA / distance) ** 2 * variance)


def rows_for_tie(margin: float, discordant: float) -> int:
    """Return the rows after which two equal models read as tied 95 times of 100.

    The interval must lie within the margin whenever the difference is not significant: two half-widths.
    """
    return math.ceil((2 * _Z_ALPHA / margin) ** 2 * discordant)


def plan(rows: int, difference: float, margin: float) -> list[PlanRow]:
    """Return the plan for several shares of discordant rows."""
    return [
        PlanRow(
            discordant,
            rows,
            detectable_difference(rows, discordant),
            rows_needed(difference, discordant) if difference <= discordant else 0,
            rows_for_tie(margin, discordant),
        )
        for discordant in (0.05, 0.1, 0.2, 0.3)
    ]
