"""Out-of-scope rows: which label marks them, how the threshold is chosen, and how it is scored."""

from __future__ import annotations

import numpy as np
import pytest

from empu.errors import ConfigError, UsageError
from empu.evals.out_of_scope import choose_threshold, find_out_of_scope_label, score_threshold
from empu.text.task import Task


@pytest.mark.parametrize("name", ["oos", "Out of scope", "out_of_scope", "None of these"])
def test_out_of_scope_labels_are_recognised(name: str) -> None:
    assert find_out_of_scope_label(["billing", name], None) == name


def test_other_labels_are_not_recognised_but_can_be_requested() -> None:
    assert find_out_of_scope_label(["billing", "other", "loose"], None) is None
    assert find_out_of_scope_label(["billing", "other"], "other") == "other"
    with pytest.raises(UsageError, match="No row has the label 'others'"):
        find_out_of_scope_label(["billing", "other"], "others")


def test_the_threshold_is_the_best_one() -> None:
    rng = np.random.default_rng(0)
    in_scope, out_of_scope = rng.beta(8, 2, 200).tolist(), rng.beta(3, 4, 60).tolist()

    def balanced_accuracy(threshold: float) -> float:
        return float(np.mean(np.array(in_scope) >= threshold) + np.mean(np.array(out_of_scope) < threshold))

    chosen = choose_threshold(in_scope, out_of_scope)
    assert chosen is not None
    assert balanced_accuracy(chosen) >= max(map(balanced_accuracy, np.linspace(0, 1, 400))) - 1e-9
    assert choose_threshold(in_scope, []) is None
    assert choose_threshold([0.9, 0.8, 0.7, 0.99, 0.6], [0.95]) is None, "one row is too few"


def test_scores_are_those_of_the_rows() -> None:
    scores = score_threshold(0.5, [0.9, 0.8, 0.4, 0.6], [True, False, True, True], [0.1, 0.55])
    assert scores.in_scope_accuracy.value == 0.5
    assert (scores.in_scope_accepted.value, scores.recall.value) == (0.75, 0.5)
    assert scores.auroc == pytest.approx(7 / 8)
    assert "rejects 50.0%" in scores.sentence()
    assert scores.to_json().keys() == {"threshold", "found", "kept", "served", "ranking"}
    assert scores.to_json()["found"]["value"] == 0.5


def test_a_task_keeps_its_threshold_and_refuses_an_invalid_one() -> None:
    task = Task("label", labels=("a", "b"), threshold=0.4)
    assert Task.from_json(task.to_json()) == task
    assert task.is_below_threshold(0.39)
    assert not task.is_below_threshold(0.4)
    assert not Task("label", labels=("a", "b")).is_below_threshold(0.0)
    with pytest.raises(ConfigError, match="threshold"):
        Task.from_json(task.to_json() | {"threshold": 7})
