"""The score of a model that lists show."""

from __future__ import annotations

from dataclasses import dataclass

from empu.ledger.ledger import Ledger

HEADLINE_METRICS = ("accuracy", "exact match")
"""Metrics for lists; the first that a model has is shown."""


@dataclass(frozen=True, slots=True)
class HeadlineScore:
    """One metric of the newest evaluation of a model."""

    metric: str
    value: float
    rows: int


def headline_score(ledger: Ledger, model: str) -> HeadlineScore | None:
    """Return the score of the model with this id; ``None`` if it was not evaluated."""
    for evaluation in ledger.evaluations(model)[-1:]:
        name = next((name for name in HEADLINE_METRICS if name in evaluation.metrics), min(evaluation.metrics))
        metric = evaluation.metrics[name]
        return HeadlineScore(name, metric.value, metric.rows)
    return None
