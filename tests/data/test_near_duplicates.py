"""Near-duplicates are found as comparing every pair would find_pii them."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from empu.data.near_duplicates import MinHashSignatures, clusters, near_duplicate_text, shingles
from tests.data.generated_rows import sentence

pytest.importorskip("rensa")


def jaccard(one: str, other: str) -> float:
    a, b = set(shingles(one)), set(shingles(other))
    return len(a & b) / len(a | b)


def pairs_of(texts: list[str], threshold: float = 0.8) -> set[tuple[int, int]]:
    signatures = MinHashSignatures()
    try:
        for text in texts:
            signatures.add(text)
        return {(i, j) for i, j in signatures.pairs(threshold).tolist()}
    finally:
        signatures.close()


def test_pairs_agree_with_exact_similarity() -> None:
    random_numbers = random.Random(1)
    texts: list[str] = []
    for _ in range(60):
        words = sentence(random_numbers, 30).split()
        for swaps in (0, 1, 3, 8):
            changed = list(words)
            for place in random_numbers.sample(range(30), swaps):
                changed[place] = random_numbers.choice(words) + "x"
            texts.append(" ".join(changed))
    actual = pairs_of(texts)
    exact = {(i, j): jaccard(texts[i], texts[j]) for i, j in combinations(range(len(texts)), 2)}
    certain = {pair for pair, value in exact.items() if value >= 0.9}
    assert len(certain) >= 50
    assert certain <= actual
    assert all(exact[pair] > 0.65 for pair in actual)


def test_many_equal_texts_are_one_group_without_all_pairs() -> None:
    pairs = pairs_of(["the very same text"] * 3000)
    assert len(pairs) < 7000
    groups = clusters(3000, np.array(sorted(pairs), dtype=np.int64))
    assert set(groups.tolist()) == {0}


def test_short_texts_and_none_at_all() -> None:
    assert pairs_of([]) == set()
    assert pairs_of(["a"]) == set()
    assert pairs_of(["a", "b", "a", ""]) == {(0, 2)}


def test_normal_form_forgets_case_punctuation_and_spaces() -> None:
    assert near_duplicate_text("  Hello,  WORLD!!\n(ok) ") == "hello world ok"
    assert near_duplicate_text("パケット、遅い。") == "パケット 遅い"
    assert near_duplicate_text("?!") == ""


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_clusters_are_the_connected_components(links: list[tuple[int, int]]) -> None:
    expected = list(range(31))
    for _ in range(31):
        for one, other in links:
            low = min(expected[one], expected[other])
            expected = [low if value in (expected[one], expected[other]) else value for value in expected]
    pairs = np.array([sorted(link) for link in links if link[0] != link[1]], dtype=np.int64).reshape(-1, 2)
    assert clusters(31, pairs).tolist() == expected
