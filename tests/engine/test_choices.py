"""Choosing among answers: exact, a distribution, and the same whatever stands beside."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from empu.engine.backends.native import NativeBackend, open_native
from empu.engine.backends.protocol import Chunk, Want
from empu.engine.backends.torch import TorchBackend
from empu.engine.label_search import ChoiceTrie, choose
from empu.engine.sampling import log_probabilities
from empu.errors import NoRoomError, PromptTooLongError, UsageError
from tests.engine.native_reference import random_checkpoint
from tests.engine.test_adapters import SHAPE
from tests.tune.making import tiny_model

ANSWERS = [(10, 11, 5), (10, 12, 5), (10, 12, 13, 5), (20, 5), (21, 22, 23, 5), (21, 22, 24, 5)]


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend(tiny_model())


def probability(backend: TorchBackend, prompt: list[int], answer: tuple[int, ...]) -> float:
    """By the definition: the product over all branches of the restricted distribution."""
    trie = ChoiceTrie(ANSWERS)
    sequence = backend.allocate(100)
    (logits,) = backend.forward([Chunk(sequence, np.array([*prompt, *answer], dtype=np.int32), Want.ALL)])
    backend.release(sequence)
    total = 0.0
    for i, token in enumerate(answer):
        following = trie.children[answer[:i]]
        values = log_probabilities(logits[len(prompt) - 1 + i][following])
        total += float(values[following.index(token)])
    return math.exp(total)


PROMPTS = [[1, 2, 3, 4], [1, 2, 3, 9, 9, 9], [1, 2, 7], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_probabilities_are_those_of_the_definition_and_add_up_to_one(backend: TorchBackend) -> None:
    found = list(choose(backend, PROMPTS, ChoiceTrie(ANSWERS), count=len(ANSWERS)))
    for prompt, choices in zip(PROMPTS, found, strict=True):
        assert math.isclose(sum(choice.probability for choice in choices), 1.0, rel_tol=1e-5)
        assert [c.probability for c in choices] == sorted((c.probability for c in choices), reverse=True)
        for choice in choices:
            expected = probability(backend, prompt, ANSWERS[choice.index])
            assert math.isclose(choice.probability, expected, rel_tol=1e-3)


def test_the_best_is_found_first_and_alone(backend: TorchBackend) -> None:
    together = [choices[0] for choices in choose(backend, PROMPTS, ChoiceTrie(ANSWERS))]
    for prompt, best in zip(PROMPTS, together, strict=True):
        (alone,) = next(choose(backend, [prompt], ChoiceTrie(ANSWERS)))
        assert alone.index == best.index
        scores = [probability(backend, prompt, answer) for answer in ANSWERS]
        assert best.index == int(np.argmax(scores))


def test_no_sequence_is_left_behind(backend: TorchBackend) -> None:
    list(choose(backend, PROMPTS, ChoiceTrie(ANSWERS)))
    left_early = choose(backend, PROMPTS, ChoiceTrie(ANSWERS))
    next(left_early)
    del left_early
    assert not backend._caches


def test_prompts_that_do_not_fit_together_are_asked_one_after_the_other() -> None:
    checkpoint = random_checkpoint(SHAPE, "Q4_1")
    prompts = [[i % 190, *range(2, 60)] for i in range(70)]
    ample = open_native(checkpoint, threads=1)
    expected = list(choose(ample, prompts, ChoiceTrie(ANSWERS), count=2))
    block = 64 * ample.cache_bytes_per_token
    for sequences in (2, 5, 64):
        tight = NativeBackend(checkpoint.config, ample._model, threads=1, cache_bytes=sequences * block)
        assert list(choose(tight, prompts, ChoiceTrie(ANSWERS), count=2)) == expected
    nothing = NativeBackend(checkpoint.config, ample._model, threads=1, cache_bytes=block)
    with pytest.raises(NoRoomError, match="MiB are left"):
        list(choose(nothing, prompts, ChoiceTrie(ANSWERS)))
    never = NativeBackend(checkpoint.config, ample._model, threads=1, cache_bytes=block - 1)
    with pytest.raises(UsageError, match="all sequences together have"):
        list(choose(never, prompts, ChoiceTrie(ANSWERS)))
    short = NativeBackend(checkpoint.config, ample._model, threads=1, context=40)
    with pytest.raises(PromptTooLongError, match="59 tokens and at most 36"):
        list(choose(short, prompts, ChoiceTrie(ANSWERS)))


def test_what_cannot_be_chosen_from_is_said(backend: TorchBackend) -> None:
    for answers, words in (
        ([], "nothing to choose"),
        ([(1, 2), (1, 2)], "read the same"),
        ([(1,), (1, 2)], "beginning"),
    ):
        with pytest.raises(UsageError, match=words):
            ChoiceTrie(answers)
    with pytest.raises(PromptTooLongError):
        list(choose(backend, [list(range(255))], ChoiceTrie(ANSWERS)))


def test_forced_tokens_cost_no_pass() -> None:
    trie = ChoiceTrie(ANSWERS)
    assert trie.forced((20,)) == (20, 5)
    assert trie.forced((21,)) == (21, 22)
    assert trie.forced(()) == ()
    assert all(trie.forced(answer) == answer for answer in itertools.chain(ANSWERS))
