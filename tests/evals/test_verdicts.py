"""Verdicts on planted pairs, intervals against published values, and the power that plans promise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from empu.evals.intervals import bootstrap_interval, mean_with_interval, newcombe_interval, standard_error
from empu.evals.power import detectable_difference, plan, rows_for_tie, rows_needed
from empu.evals.verdicts import Outcome, PairedComparison, compare_paired, holm

DISCORDANT = 0.2
Scores = list[float]


def planted_pair(rows: int, difference: float, seed: int, cluster_size: int = 1) -> tuple[Scores, Scores, list[str]]:
    """Two models that differ on a fifth of the rows; clusters answer alike."""
    generator = np.random.default_rng(seed)
    draws = np.repeat(generator.random(math.ceil(rows / cluster_size)), cluster_size)[:rows]
    base = np.repeat(generator.random(math.ceil(rows / cluster_size)) < 0.5, cluster_size)[:rows]
    only_first = draws < (DISCORDANT + difference) / 2
    only_second = ~only_first & (draws < DISCORDANT)
    first = np.where(only_first, 1.0, np.where(only_second, 0.0, base))
    second = np.where(only_first, 0.0, np.where(only_second, 1.0, base))
    clusters = [f"{i // cluster_size}" for i in range(rows)]
    return first.tolist(), second.tolist(), clusters


def compare(rows: int, difference: float, seed: int, cluster_size: int = 1) -> PairedComparison:
    return compare_paired(*planted_pair(rows, difference, seed, cluster_size))


def test_a_planted_tie_reads_tied_at_least_93_of_100_times() -> None:
    rows = rows_for_tie(0.03, DISCORDANT)
    outcomes = [compare(rows, 0.0, seed).outcome for seed in range(100)]
    assert outcomes.count(Outcome.TIED) >= 93, outcomes


def test_a_planted_tie_of_clustered_rows_is_seldom_called_a_difference() -> None:
    outcomes = [compare(2000, 0.0, seed, cluster_size=8).outcome for seed in range(100)]
    assert sum(outcome in (Outcome.BETTER, Outcome.WORSE) for outcome in outcomes) <= 10, outcomes


def test_a_planted_difference_of_3_points_is_found_at_the_promised_power() -> None:
    rows = rows_needed(0.03, DISCORDANT, power=0.8)
    outcomes = [compare(rows, 0.03, seed).outcome for seed in range(200)]
    assert 0.73 <= outcomes.count(Outcome.BETTER) / 200 <= 0.88
    assert outcomes.count(Outcome.WORSE) == 0


def test_rows_of_one_passage_count_less_than_independent_ones() -> None:
    alone, clustered = compare(1000, 0.03, 0), compare(1000, 0.03, 0, cluster_size=10)
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)
    assert (alone.test, clustered.test) == ("exact McNemar", "clustered z")


def test_few_rows_are_undecided_and_say_how_many_more_would_decide() -> None:
    comparison = compare(60, 0.0, 3)
    assert comparison.outcome is Outcome.UNDECIDED
    assert comparison.more_rows > 100
    assert "more rows would decide" in comparison.sentence("a", "b")
    same = compare_paired([1.0, 0.0] * 10, [1.0, 0.0] * 10)
    assert same.outcome is Outcome.UNDECIDED  # 20 equal answers prove no tie within 3 points
    assert same.p_value == 1.0


def test_sentences_name_the_outcome() -> None:
    better = compare_paired([1.0] * 90 + [0.0] * 10, [0.0] * 50 + [1.0] * 40 + [0.0] * 10)
    assert better.sentence("new", "old").startswith("new is better than old: 90.0 % against 40.0 % (+50.0 points")
    worse = compare_paired([0.0] * 50 + [1.0] * 40 + [0.0] * 10, [1.0] * 90 + [0.0] * 10)
    assert worse.sentence("new", "old").startswith("new is worse than old: ")


def test_the_rows_that_would_decide_do_decide() -> None:
    comparison = compare(300, 0.05, 1)
    rows = comparison.rows + comparison.more_rows
    decided = [compare(rows, comparison.difference, seed).outcome is not Outcome.UNDECIDED for seed in range(50)]
    assert comparison.outcome is Outcome.UNDECIDED
    assert sum(decided) >= 30


def test_holm_equals_a_worked_example() -> None:
    """p = 0.01, 0.04, 0.03 become 0.03, 0.06, 0.06."""
    template = compare(100, 0.0, 0)
    adjusted = holm([replace(template, p_value=p) for p in (0.01, 0.04, 0.03)])
    assert [c.adjusted_p for c in adjusted] == pytest.approx([0.03, 0.06, 0.06])


def test_newcombe_interval_equals_a_published_value() -> None:
    """36 both, 12 only the first, 2 only the second, 0 neither: 0.20, 0.0569 to 0.3404 (Newcombe 1998, table III)."""
    first = np.array([True] * 48 + [False] * 2)
    second = np.array([True] * 36 + [False] * 12 + [True] * 2)
    low, high = newcombe_interval(first, second)
    assert low == pytest.approx(0.0569, abs=2e-3)
    assert high == pytest.approx(0.3404, abs=2e-3)


def test_intervals_are_wilsons_below_300_rows_and_bootstrapped_above() -> None:
    few = mean_with_interval([1.0] * 9 + [0.0])
    assert [few.low, few.high] == pytest.approx([0.5958, 0.9821], abs=1e-4)
    many = mean_with_interval([1.0, 0.0] * 500)
    assert [many.low, many.high] == pytest.approx([0.469, 0.531], abs=3e-3)
    assert mean_with_interval([1.0] * 400).low < 1.0


def test_the_bootstrap_agrees_with_the_standard_error() -> None:
    values = np.random.default_rng(0).random(2000)
    clusters = [str(i // 4) for i in range(2000)]
    low, high = bootstrap_interval(values, clusters)
    assert (high - low) / (2 * 1.96) == pytest.approx(standard_error(values, clusters), rel=0.1)


def test_detectable_differences_and_needed_rows_are_inverses() -> None:
    for entry in plan(1838, 0.03, 0.03):
        if entry.needed:
            assert rows_needed(entry.detectable, entry.discordant) == pytest.approx(1838, rel=0.01)
            assert detectable_difference(entry.needed, entry.discordant) == pytest.approx(0.03, rel=0.01)
    assert detectable_difference(3, 0.1) == 1.0
    with pytest.raises(ValueError, match="at most the share"):
        rows_needed(0.3, 0.2)
