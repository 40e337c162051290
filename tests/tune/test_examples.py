"""Packed examples equal the examples that they were made from."""

from __future__ import annotations

import pytest

from empu.tune.batches import epoch_batches
from empu.tune.examples import PackedExamples
from tests.tune.samples import examples


def test_packed_examples_equal_the_examples() -> None:
    some = examples(40)
    packed = PackedExamples(iter(some))
    assert list(packed) == some
    assert packed[7:3:-2] == some[7:3:-2]
    assert packed[-1] == some[-1]
    with pytest.raises(IndexError):
        packed[40]
    assert epoch_batches(packed, 8, 0, 3) == epoch_batches(some, 8, 0, 3)
