"""Out of scope: which label means it, where the line is drawn, how it is measured."""

from __future__ import annotations

import numpy as np
import pytest

from empu.errors import ConfigError, UsageError
from empu.evals.out_of_scope import choose_threshold, label_out_of_scope, measure
from empu.text.task import Task


@pytest.mark.parametrize("name", ["oos", "Out of scope", "out_of_scope", "None of these"])
def test_labels_that_say_so_are_recognised(name: str) -> None:
    assert label_out_of_scope(["billing", name], None) == name


def test_other_labels_are_not_and_can_be_named() -> None:
    assert label_out_of_scope(["billing", "other", "loose"], None) is None
    assert label_out_of_scope(["billing", "other"], "other") == "other"
    with pytest.raises(UsageError, match="No row has the label 'others'"):
        label_out_of_scope(["billing", "other"], "others")


def test_the_threshold_is_the_best_there_is() -> None:
    random = np.random.default_rng(0)
    inside, outside = random.beta(8, 2, 200).tolist(), random.beta(3, 4, 60).tolist()

    def balance(cut: float) -> float:
        return float(np.mean(np.array(inside) >= cut) + np.mean(np.array(outside) < cut))

    chosen = choose_threshold(inside, outside)
    assert chosen is not None
    assert balance(chosen) >= max(balance(cut) for cut in np.linspace(0, 1, 400)) - 1e-9
    assert choose_threshold(inside, []) is None
    assert choose_threshold([0.9, 0.8, 0.7, 0.99, 0.6], [0.95]) is None, "one row says too little"


def test_measures_are_those_of_the_rows() -> None:
    scope = measure(0.5, [0.9, 0.8, 0.4, 0.6], [True, False, True, True], [0.1, 0.55])
    assert scope.served.value == 0.5
    assert (scope.kept.value, scope.found.value) == (0.75, 0.5)
    assert scope.ranking == pytest.approx(7 / 8)
    assert "none of these: for 50.0%" in scope.sentence()


def test_a_task_keeps_its_threshold_and_refuses_a_wild_one() -> None:
    task = Task("label", labels=("a", "b"), threshold=0.4)
    assert Task.from_json(task.to_json()) == task
    assert task.refuses(0.39)
    assert not task.refuses(0.4)
    assert not Task("label", labels=("a", "b")).refuses(0.0)
    with pytest.raises(ConfigError, match="threshold"):
        Task.from_json(task.to_json() | {"threshold": 7})


def test_wild_calibrations_are_bounded_or_refused() -> None:
    for slope, intercept in ((1e308, 1e308), (-1e308, 0.0), (500.0, -1e9)):
        task = Task("label", labels=("a", "b"), calibration=(slope, intercept))
        assert all(0 <= task.confidence(p) <= 1 for p in (0.0, 0.3, 1.0))
    for wild in ([1.0], [1.0, float("nan")], "ab", [1.0, "2"]):
        with pytest.raises(ConfigError, match="calibration"):
            Task.from_json(Task("label", labels=("a", "b")).to_json() | {"calibration": wild})
