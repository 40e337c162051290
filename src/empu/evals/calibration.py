"""Platt scaling: confidences that are the probability of being right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from empu.text.task import log_odds

MIN_ROWS = 30
PRIOR_STRENGTH = 1.0
"""Weight of the prior that leaves probabilities as they are."""
SLOPE_RANGE, INTERCEPT_RANGE = (0.02, 3.0), (-8.0, 8.0)
"""Bounds that keep a confidence finite and the order of two probabilities unchanged."""


def fit_platt_scaling(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[float, float] | None:
    """Return (slope, intercept) on the log-odds of ``confidences`` (Platt 1999), from held-out rows.

    The fit uses damped Newton steps with a weak prior. The result is ``None`` for fewer than :data:`MIN_ROWS` rows, or
    if all or none are correct.
    """
    y = np.array(correct, dtype=np.float64)
    if len(y) < MIN_ROWS or y.min() == y.max():
        return None
    x = np.stack([np.array([log_odds(p) for p in confidences]), np.ones(len(y))], axis=1)
    lowest, highest = zip(SLOPE_RANGE, INTERCEPT_RANGE, strict=True)
    weights, prior = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    for _ in range(200):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (p - y) + PRIOR_STRENGTH * (weights - prior)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + PRIOR_STRENGTH * np.eye(2)
        step = np.clip(np.linalg.solve(hessian, gradient), -0.25, 0.25)
        before, weights = weights, np.clip(weights - step, lowest, highest)
        if float(np.abs(weights - before).max()) < 1e-9:
            break
    return float(weights[0]), float(weights[1])
