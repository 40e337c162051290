"""Platt scaling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from empu.errors import ConfigError
from empu.evals.calibration import fit_platt_scaling
from empu.text.task import Task


def test_calibrated_confidences_are_frequencies() -> None:
    rng = np.random.default_rng(0)
    is_right = rng.random(4000) < 0.7
    probabilities = np.where(is_right, rng.beta(9, 1, 4000), rng.beta(6, 2, 4000))
    calibration = fit_platt_scaling(probabilities.tolist(), is_right.tolist())
    assert calibration is not None
    task = Task("label", labels=("a", "b"), calibration=calibration)
    confidences = np.array([task.confidence(probability) for probability in probabilities])
    for low in np.arange(0.3, 0.95, 0.1):
        in_bin = (confidences >= low) & (confidences < low + 0.1)
        if in_bin.sum() > 200:
            assert abs(confidences[in_bin].mean() - is_right[in_bin].mean()) < 0.06
    assert (np.argsort(confidences, kind="stable") == np.argsort(probabilities, kind="stable")).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=30, max_size=80))
def test_calibration_always_gives_probabilities(pairs: list[tuple[float, bool]]) -> None:
    calibration = fit_platt_scaling([p for p, _ in pairs], [is_right for _, is_right in pairs])
    task = Task("label", labels=("a", "b"), calibration=calibration)
    for p in (0.0, 1e-9, 0.5, 1 - 1e-9, 1.0):
        assert 0 <= task.confidence(p) <= 1


def test_too_few_or_uniform_rows_give_no_calibration() -> None:
    assert fit_platt_scaling([0.5] * 29, [True, False] * 14 + [True]) is None
    assert fit_platt_scaling([0.5] * 60, [True] * 60) is None


def test_extreme_calibrations_are_bounded_and_invalid_ones_refused() -> None:
    for slope, intercept in ((1e308, 1e308), (-1e308, 0.0), (500.0, -1e9)):
        task = Task("label", labels=("a", "b"), calibration=(slope, intercept))
        assert all(0 <= task.confidence(p) <= 1 for p in (0.0, 0.3, 1.0))
    for invalid in ([1.0], [1.0, float("nan")], "ab", [1.0, "2"]):
        with pytest.raises(ConfigError, match="calibration"):
            Task.from_json(Task("label", labels=("a", "b")).to_json() | {"calibration": invalid})
