"""Weights of a mixture: least log loss on rows that no member was fitted on, with weights of at least zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from empu.members.member import FloatArray, log_softmax, mix

IntArray = npt.NDArray[np.int64]

PRIOR_STRENGTH = 1.0
"""Weight, in nats, of the prior that pulls the weights to equal ones whose sum is 1."""
MIN_WEIGHT = 0.02
"""Members below this weight are dropped."""
MIN_SURE_ROWS = 30
"""Rows that a stage of the cascade has to answer, for its threshold to be chosen."""
_STEPS, _TOLERANCE = 200, 1e-8


def fit_weights(tables: Mapping[str, FloatArray], targets: IntArray) -> dict[str, float]:
    """Return member -> weight from log-probabilities (rows, labels). At least one member has a weight.

    The log loss is convex in the weights. It is minimised by Newton steps, clipped at zero and halved while the loss
    rises. The scale of the weights is the inverse temperature of the mixture.
    """
    names = list(tables)
    log_p = np.stack([tables[name] for name in names])  # (members, rows, labels)
    prior = np.full(len(names), 1 / len(names))
    weights = prior.copy()
    loss = _loss(log_p, weights, prior, targets)
    for _ in range(_STEPS):
        p = np.exp(log_softmax(np.tensordot(weights, log_p, 1)))
        mean = (p * log_p).sum(axis=2)  # (members, rows)
        right = log_p[:, np.arange(len(targets)), targets]
        gradient = (mean - right).sum(axis=1) + PRIOR_STRENGTH * (weights - prior)
        hessian = np.einsum("rl,arl,brl->ab", p, log_p, log_p) - mean @ mean.T + PRIOR_STRENGTH * np.eye(len(names))
        free = (weights > 0) | (gradient < 0)
        step = np.zeros(len(names))
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        scale = 1.0
        while scale > 1e-6:
            candidate = np.maximum(weights - scale * step, 0.0)
            if (candidate_loss := _loss(log_p, candidate, prior, targets)) <= loss:
                break
            scale /= 2
        else:
            break
        change = float(np.abs(candidate - weights).max())
        weights, loss = candidate, candidate_loss
        if change < _TOLERANCE:
            break
    kept = {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight >= MIN_WEIGHT}
    return kept or {names[int(np.argmax(weights))]: 1.0}


def log_loss(tables: Mapping[str, FloatArray], weights: Mapping[str, float], targets: IntArray) -> float:
    """Return the log loss of a mixture, summed over the rows, in nats."""
    return float(-mix(tables, weights)[np.arange(len(targets)), targets].sum())


def accuracy(tables: Mapping[str, FloatArray], weights: Mapping[str, float], targets: IntArray) -> float:
    """Return the accuracy of a mixture."""
    return float((mix(tables, weights).argmax(axis=1) == targets).mean()) if len(targets) else 0.0


def choose_threshold(log_probabilities: FloatArray, targets: IntArray, max_risk: float) -> float | None:
    """Return the lowest confidence above which the fraction of errors is at most ``max_risk``.

    ``None`` if fewer than :data:`MIN_SURE_ROWS` rows would be above it.
    """
    confidences = np.exp(log_probabilities.max(axis=1))
    wrong = log_probabilities.argmax(axis=1) != targets
    order = np.argsort(-confidences, kind="stable")
    risks = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    sure = np.flatnonzero(risks <= max_risk)
    if not len(sure) or sure[-1] + 1 < MIN_SURE_ROWS:
        return None
    return float(confidences[order[sure[-1]]])


def select(tables: Mapping[str, FloatArray], names: Sequence[str]) -> dict[str, FloatArray]:
    """Return the tables of some members."""
    return {name: tables[name] for name in names}


def _loss(log_p: FloatArray, weights: FloatArray, prior: FloatArray, targets: IntArray) -> float:
    mixed = log_softmax(np.tensordot(weights, log_p, 1))
    distance = PRIOR_STRENGTH / 2 * float(np.square(weights - prior).sum())
    return float(-mixed[np.arange(len(targets)), targets].sum()) + distance
