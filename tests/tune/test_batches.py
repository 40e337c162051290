"""Batches: the common prefix, the layout of examples, and the order of an epoch."""

from __future__ import annotations

from itertools import chain

from empu.tune.batches import Batch, common_prompt_prefix, epoch_batches
from empu.tune.examples import Example
from tests.tune.samples import examples


def test_loss_is_on_completions_only_and_the_prefix_is_stored_once() -> None:
    some = examples(5)
    prefix = common_prompt_prefix(some)
    assert prefix == (1, 2, 3)
    batch = Batch.of(some, prefix)
    assert len(batch.tokens) == 3 + sum(len(example) - 3 - 1 for example in some)
    assert batch.completion_targets.tolist() == [token for example in some for token in example.completion]
    assert [int(batch.tokens[i]) for i in batch.completion_positions[::2]] == [4] * 5


def test_the_common_prompt_prefix_leaves_each_prompt_its_last_token() -> None:
    prompts = [(1, 2, 3, 4, 5), (1, 2, 3, 9), (1, 2, 3, 4)]
    assert common_prompt_prefix(Example(prompt, (0,)) for prompt in prompts) == (1, 2, 3)
    assert common_prompt_prefix([Example((1, 2), (0,)), Example((1,), (0,))]) == ()
    assert common_prompt_prefix([]) == ()


def test_an_epoch_has_each_example_once_in_its_own_order() -> None:
    some = examples(77)
    first, second = (epoch_batches(some, 8, 0, epoch) for epoch in (0, 1))
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(77))
    assert first != second
    assert first == epoch_batches(some, 8, 0, 0)
