"""The conclusion of a comparison."""

from __future__ import annotations

import pytest

from empu.evals.comparison import compare, table
from empu.evals.metrics import accuracy, mcnemar
from empu.evals.systems import System


def system(name: str, correct: list[bool]) -> System:
    return System(name, ("a",) * len(correct), tuple(correct), {"accuracy": accuracy(correct)}, 1.0, 1_000_000)


@pytest.mark.parametrize(
    ("num_rival", "num_ours", "start"),
    [(90, 50, "linear wins"), (50, 90, "The specialist wins"), (70, 71, "No significant difference")],
)
def test_the_conclusion_names_the_winner(num_rival: int, num_ours: int, start: str) -> None:
    rival = system("linear", [i < num_rival for i in range(100)])
    ours = system("router", [i < num_ours for i in range(100)])
    comparison = compare([rival, ours])
    assert comparison.sentence().startswith(start)
    assert comparison.p_values["linear"] == mcnemar(ours.correct, rival.correct)


def test_a_significant_winner_is_named_before_a_better_system_without_significance() -> None:
    ours = system("router", [i < 140 for i in range(200)])
    best = system("best", [not 60 <= i < 109 for i in range(200)])
    significant = system("significant", [i < 150 for i in range(200)])
    comparison = compare([best, significant, ours])
    assert best.metrics["accuracy"].value > significant.metrics["accuracy"].value
    assert comparison.p_values["best"] > 0.05 > comparison.p_values["significant"]
    assert comparison.sentence().startswith("significant wins")


def test_the_table_has_a_row_for_each_system() -> None:
    comparison = compare([system("linear", [True, False]), system("router", [True, True])])
    rows = list(table(comparison))
    assert [row[0] for row in rows] == ["linear", "router"]
    assert rows[0][-2:] == ("1.0 ms", "1.0 MB")
