"""Label search: exact, a distribution over the labels, and independent of the batch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from empu.engine.backends.native import NativeBackend, open_native
from empu.engine.backends.protocol import Chunk, LogitsNeeded
from empu.engine.backends.torch import TorchBackend
from empu.engine.label_search import LabelTrie, label_distributions, search_labels
from empu.engine.sampling import log_probabilities
from empu.errors import CacheFullError, PromptTooLongError, UsageError
from tests.engine.backends.memory_checkpoint import SMALL, random_checkpoint
from tests.tune.samples import tiny_model

ANSWERS = [(10, 11, 5), (10, 12, 5), (10, 12, 13, 5), (20, 5), (21, 22, 23, 5), (21, 22, 24, 5)]
PROMPTS = [[1, 2, 3, 4], [1, 2, 3, 9, 9, 9], [1, 2, 7], [1, 2, 3, 4, 5, 6, 7, 8]]


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend(tiny_model())


def probability(backend: TorchBackend, prompt: list[int], answer: tuple[int, ...]) -> float:
    """By the definition: the product of the restricted distributions over all branches."""
    trie = LabelTrie(ANSWERS)
    sequence = backend.allocate(100)
    (logits,) = backend.forward([Chunk(sequence, np.array([*prompt, *answer], dtype=np.int32), LogitsNeeded.ALL)])
    backend.release(sequence)
    total = 0.0
    for i, token in enumerate(answer):
        next_tokens = trie.children[answer[:i]]
        logprobs = log_probabilities(logits[len(prompt) - 1 + i][next_tokens])
        total += float(logprobs[next_tokens.index(token)])
    return math.exp(total)


def test_probabilities_follow_the_definition_and_sum_to_one(backend: TorchBackend) -> None:
    results = list(search_labels(backend, PROMPTS, LabelTrie(ANSWERS), count=len(ANSWERS)))
    for prompt, labels in zip(PROMPTS, results, strict=True):
        assert math.isclose(sum(label.probability for label in labels), 1.0, rel_tol=1e-5)
        assert [x.probability for x in labels] == sorted((x.probability for x in labels), reverse=True)
        for label in labels:
            expected = probability(backend, prompt, ANSWERS[label.index])
            assert math.isclose(label.probability, expected, rel_tol=1e-3)


def test_the_best_label_is_the_same_alone_and_in_a_batch(backend: TorchBackend) -> None:
    batched = [labels[0] for labels in search_labels(backend, PROMPTS, LabelTrie(ANSWERS))]
    for prompt, best in zip(PROMPTS, batched, strict=True):
        (alone,) = next(search_labels(backend, [prompt], LabelTrie(ANSWERS)))
        assert alone.index == best.index
        scores = [probability(backend, prompt, answer) for answer in ANSWERS]
        assert best.index == int(np.argmax(scores))


def test_all_sequences_are_released(backend: TorchBackend) -> None:
    list(search_labels(backend, PROMPTS, LabelTrie(ANSWERS)))
    unfinished = search_labels(backend, PROMPTS, LabelTrie(ANSWERS))
    next(unfinished)
    del unfinished
    assert not backend._caches


def test_prompts_that_do_not_fit_the_memory_together_are_split_into_batches() -> None:
    checkpoint = random_checkpoint(SMALL, "Q4_1")
    prompts = [[i % 190, *range(2, 60)] for i in range(70)]
    roomy = open_native(checkpoint, threads=1)
    expected = list(search_labels(roomy, prompts, LabelTrie(ANSWERS), count=2))
    block = 64 * roomy.cache_bytes_per_token
    for num_sequences in (2, 5, 64):
        tight = NativeBackend(checkpoint.config, roomy._model, threads=1, max_cache_bytes=num_sequences * block)
        assert list(search_labels(tight, prompts, LabelTrie(ANSWERS), count=2)) == expected
    one_block = NativeBackend(checkpoint.config, roomy._model, threads=1, max_cache_bytes=block)
    with pytest.raises(CacheFullError, match="MiB are left"):
        list(search_labels(one_block, prompts, LabelTrie(ANSWERS)))
    no_block = NativeBackend(checkpoint.config, roomy._model, threads=1, max_cache_bytes=block - 1)
    with pytest.raises(UsageError, match="all sequences together have"):
        list(search_labels(no_block, prompts, LabelTrie(ANSWERS)))
    short = NativeBackend(checkpoint.config, roomy._model, threads=1, context_length=40)
    with pytest.raises(PromptTooLongError, match="59 tokens and at most 36"):
        list(search_labels(short, prompts, LabelTrie(ANSWERS)))


def test_invalid_labels_and_prompts_are_refused(backend: TorchBackend) -> None:
    for answers, message in (
        ([], "no labels"),
        ([(1, 2), (1, 2)], "same tokens"),
        ([(1,), (1, 2)], "beginning"),
    ):
        with pytest.raises(UsageError, match=message):
            LabelTrie(answers)
    with pytest.raises(PromptTooLongError):
        list(search_labels(backend, [list(range(255))], LabelTrie(ANSWERS)))


def test_forced_tokens_are_appended_without_the_model() -> None:
    trie = LabelTrie(ANSWERS)
    assert trie.extend_forced((20,)) == (20, 5)
    assert trie.extend_forced((21,)) == (21, 22)
    assert trie.extend_forced(()) == ()
    assert all(trie.extend_forced(answer) == answer for answer in itertools.chain(ANSWERS))


def test_a_distribution_has_the_exact_likely_answers_and_shares_out_the_rest(backend: TorchBackend) -> None:
    trie = LabelTrie(ANSWERS)
    exact = list(search_labels(backend, PROMPTS, trie, count=len(ANSWERS)))
    complete = list(label_distributions(backend, PROMPTS, trie, resolution=0.0))
    coarse = list(label_distributions(backend, PROMPTS, trie, resolution=0.2))
    for labels, whole, rough in zip(exact, complete, coarse, strict=True):
        assert math.isclose(whole.sum(), 1.0)
        assert math.isclose(rough.sum(), 1.0)
        for label in labels:
            assert math.isclose(whole[label.index], label.probability, rel_tol=1e-5)
            if label.probability >= 0.2:
                assert math.isclose(rough[label.index], label.probability, rel_tol=1e-5)
        assert rough.argmax() == whole.argmax() == labels[0].index
        assert (rough > 0).all()


def test_a_distribution_is_the_same_alone_and_in_a_batch() -> None:
    native_backend = open_native(random_checkpoint(SMALL, "Q8_0"), threads=1)
    batched = list(label_distributions(native_backend, PROMPTS, LabelTrie(ANSWERS)))
    for prompt, distribution in zip(PROMPTS, batched, strict=True):
        assert np.array_equal(next(label_distributions(native_backend, [prompt], LabelTrie(ANSWERS))), distribution)
