"""Questions that none of the labels answers: which rows are such, where confidence is too low, and how well that works.

Rows of the out-of-scope label are not tuned on. Those outside the test part choose the threshold, together with the
development rows; those of the test part measure it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from empu.errors import UsageError
from empu.evals.metrics import accuracy
from empu.ledger.records import Metric

FEWEST = 10
"""Rows on either side without which no threshold is chosen: it would say more of these rows than of others."""

NAMES = frozenset({"oos", "ood", "outofscope", "outofdomain", "noneofthese", "noneoftheabove", "diluarcakupan"})
"""Labels that say so by themselves, without case, spaces and punctuation."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How a threshold does on held-out rows."""

    threshold: float
    found: Metric
    """Share of the out-of-scope rows that were refused."""
    kept: Metric
    """Share of the other rows that were not."""
    served: Metric
    """Share of the other rows that were given their right label: the accuracy that users meet."""
    ranking: float
    """Probability that a row in scope has a higher confidence than one out of scope (area under the ROC curve)."""

    def sentence(self) -> str:
        """For people."""
        return (
            f"Out of scope: below a confidence of {self.threshold:.0%} it says none of these: for "
            f"{self.found.value:.1%} ({self.found.low:.1%} to {self.found.high:.1%}) of the {self.found.rows:,} "
            f"held-out rows that are, wrongly for {1 - self.kept.value:.1%} of the {self.kept.rows:,} that are not, of "
            f"which {self.served.value:.1%} get their right label so; it ranks them with an area of {self.ranking:.3f} "
            "under the ROC curve."
        )


def label_out_of_scope(labels: Collection[str], wanted: str | None) -> str | None:
    """The label that means out of scope: the one that was asked for, or one whose name says so.

    Raises :class:`UsageError` when no row has the label that was asked for.
    """
    if wanted is not None:
        if wanted not in labels:
            raise UsageError(
                f"No row has the label {wanted!r} of --out-of-scope; there are {', '.join(sorted(labels))}."
            )
        return wanted
    return next((label for label in labels if re.sub(r"[\W_]", "", label.casefold()) in NAMES), None)


def choose_threshold(inside: Sequence[float], outside: Sequence[float]) -> float | None:
    """The confidence below which a row counts as out of scope: the middle of the best gap, by the mean of the shares of
    both sides that are judged rightly. ``None`` for fewer than :data:`FEWEST` rows on a side.
    """
    if min(len(inside), len(outside)) < FEWEST:
        return None
    values = np.unique([*inside, *outside])
    cuts = np.concatenate(([values[0]], (values[1:] + values[:-1]) / 2))
    kept = 1 - np.searchsorted(np.sort(inside), cuts) / len(inside)
    found = np.searchsorted(np.sort(outside), cuts) / len(outside)
    return float(cuts[int(np.argmax(kept + found))])


def measure(threshold: float, inside: Sequence[float], correct: Sequence[bool], outside: Sequence[float]) -> Scope:
    """How ``threshold`` does on confidences of held-out rows, both sides of which must be there; ``correct``: whether
    the likeliest label of a row in scope is its own.
    """
    ordered = np.sort(outside)
    below, not_above = (np.searchsorted(ordered, inside, side).sum() for side in ("left", "right"))
    return Scope(
        threshold,
        accuracy([one < threshold for one in outside]),
        accuracy([one >= threshold for one in inside]),
        accuracy([one >= threshold and right for one, right in zip(inside, correct, strict=True)]),
        float(below + not_above) / (2 * len(inside) * len(outside)),
    )
