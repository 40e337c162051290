"""The longest common prefix of token ids."""

from __future__ import annotations

from empu.text.common_prefix import common_prefix, common_prefix_length


def test_length_counts_equal_leading_ids() -> None:
    assert common_prefix_length([1, 2, 3], (1, 2, 4)) == 2
    assert common_prefix_length([1, 2], [1, 2, 3]) == 2
    assert common_prefix_length([1], [2]) == 0
    assert common_prefix_length([], [1]) == 0


def test_prefix_is_shared_by_all_sequences() -> None:
    assert common_prefix([(1, 2, 3), (1, 2), (1, 2, 4)]) == (1, 2)
    assert common_prefix([(1, 2), (3,)]) == ()
    assert common_prefix([]) == ()
