"""Out-of-scope inputs: which label marks them, which confidence threshold rejects them, and how well that works.

Out-of-scope rows are not trained on. Those outside the test split choose the threshold, together with the validation
rows; those of the test split measure it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from empu.errors import UsageError
from empu.evals.metrics import accuracy
from empu.ledger.records import Metric

MIN_ROWS = 10
"""Rows needed in scope and out of scope to choose a threshold. With fewer it would fit these rows only."""

OUT_OF_SCOPE_LABELS = frozenset(
    {"oos", "ood", "outofscope", "outofdomain", "noneofthese", "noneoftheabove", "diluarcakupan"}
)
"""Labels that are recognised, without case, spaces and punctuation."""


@dataclass(frozen=True, slots=True)
class OutOfScopeScores:
    """How a confidence threshold separates held-out rows in scope from those out of scope."""

    threshold: float
    recall: Metric
    """Fraction of the out-of-scope rows that were rejected."""
    in_scope_accepted: Metric
    """Fraction of the in-scope rows that were not rejected."""
    in_scope_accuracy: Metric
    """Fraction of the in-scope rows that were not rejected and got the right label: the accuracy that users see."""
    auroc: float
    """Area under the ROC curve: probability that an in-scope row has a higher confidence than an out-of-scope row."""

    def sentence(self) -> str:
        """Return the result in one sentence."""
        return (
            f"Out of scope: below a confidence of {self.threshold:.0%} the answer is 'none of these'. This rejects "
            f"{self.recall.value:.1%} ({self.recall.low:.1%} to {self.recall.high:.1%}) of the "
            f"{self.recall.rows:,} out-of-scope test rows, and wrongly {1 - self.in_scope_accepted.value:.1%} of the "
            f"{self.in_scope_accepted.rows:,} in-scope test rows, of which {self.in_scope_accuracy.value:.1%} get the "
            f"right label (AUROC {self.auroc:.3f})."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain values, with the keys that ledgers hold."""
        return {
            "threshold": self.threshold,
            "found": dataclasses.asdict(self.recall),
            "kept": dataclasses.asdict(self.in_scope_accepted),
            "served": dataclasses.asdict(self.in_scope_accuracy),
            "ranking": self.auroc,
        }


def find_out_of_scope_label(labels: Collection[str], requested: str | None) -> str | None:
    """Return the requested label, or the one whose name means out of scope, if any.

    Raises :class:`UsageError` if no row has the requested label.
    """
    if requested is not None:
        if requested not in labels:
            raise UsageError(
                f"No row has the label {requested!r} of --out-of-scope; the labels are {', '.join(sorted(labels))}."
            )
        return requested
    return next((label for label in labels if re.sub(r"[\W_]", "", label.casefold()) in OUT_OF_SCOPE_LABELS), None)


def choose_threshold(in_scope: Sequence[float], out_of_scope: Sequence[float]) -> float | None:
    """Return the confidence below which a row is rejected, from the confidences of rows of both kinds.

    It maximises the mean of the two fractions that are decided correctly, and lies in the middle between two
    confidences. ``None`` for fewer than :data:`MIN_ROWS` rows of a kind.
    """
    if min(len(in_scope), len(out_of_scope)) < MIN_ROWS:
        return None
    values = np.unique([*in_scope, *out_of_scope])
    thresholds = np.concatenate(([values[0]], (values[1:] + values[:-1]) / 2))
    accepted = 1 - np.searchsorted(np.sort(in_scope), thresholds) / len(in_scope)
    rejected = np.searchsorted(np.sort(out_of_scope), thresholds) / len(out_of_scope)
    return float(thresholds[int(np.argmax(accepted + rejected))])


def score_threshold(
    threshold: float, in_scope: Sequence[float], correct: Sequence[bool], out_of_scope: Sequence[float]
) -> OutOfScopeScores:
    """Score ``threshold`` on the confidences of test rows of both kinds, neither of which may be empty.

    ``correct``: whether the most likely label of each in-scope row is right.
    """
    ordered = np.sort(out_of_scope)
    lower, not_higher = (np.searchsorted(ordered, in_scope, side).sum() for side in ("left", "right"))
    return OutOfScopeScores(
        threshold,
        recall=accuracy([confidence < threshold for confidence in out_of_scope]),
        in_scope_accepted=accuracy([confidence >= threshold for confidence in in_scope]),
        in_scope_accuracy=accuracy(
            [confidence >= threshold and right for confidence, right in zip(in_scope, correct, strict=True)]
        ),
        auroc=float(lower + not_higher) / (2 * len(in_scope) * len(out_of_scope)),
    )
