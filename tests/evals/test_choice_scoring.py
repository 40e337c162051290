"""Log-likelihoods equal the definition for any sharing of prefixes, and shared tokens are computed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from empu.engine.backends.protocol import Chunk, LogitsNeeded, SequenceId
from empu.engine.backends.torch import TorchBackend
from empu.errors import CacheFullError
from empu.evals.choice_scoring import ChoiceScorer, EncodedChoices, EncodedRow, encode_row, log_softmax
from empu.text.base import TextProcessor
from tests.engine.byte_tokenizer import ByteTokenizer
from tests.tune.samples import tiny_model

CHOICES = ((10,), (11, 12), (11, 12, 13), (14, 15, 16, 17))


class CountingBackend(TorchBackend):
    """Counts computed tokens; holds a limited number of sequences."""

    def __init__(self, max_sequences: int = 1000) -> None:
        super().__init__(tiny_model())
        self.num_tokens = 0
        self.max_sequences = max_sequences
        self.open: set[SequenceId] = set()

    def allocate(self, capacity: int) -> SequenceId:
        if len(self.open) >= self.max_sequences:
            raise CacheFullError("full")
        sequence = super().allocate(capacity)
        self.open.add(sequence)
        return sequence

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        if len(self.open) >= self.max_sequences:
            raise CacheFullError("full")
        forked = super().fork(sequence, length, capacity)
        self.open.add(forked)
        return forked

    def release(self, sequence: SequenceId) -> None:
        self.open.discard(sequence)
        super().release(sequence)

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        self.num_tokens += sum(len(chunk.tokens) for chunk in batch)
        return super().forward(batch)


def expected(backend: TorchBackend, context: Sequence[int], continuation: Sequence[int]) -> float:
    ids = np.array([*context, *continuation], dtype=np.int32)
    sequence = backend.allocate(len(ids))
    (logits,) = backend.forward([Chunk(sequence, ids, LogitsNeeded.ALL)])
    backend.release(sequence)
    logprobs = log_softmax(logits)
    return float(sum(logprobs[len(context) - 1 + i, token] for i, token in enumerate(continuation)))


def rows_of(contexts: Sequence[Sequence[int]]) -> list[EncodedRow]:
    return [EncodedRow((EncodedChoices(tuple(context), CHOICES),)) for context in contexts]


def contexts(shared: int, count: int) -> list[list[int]]:
    generator = np.random.default_rng(0)
    prefix = generator.integers(3, 60, shared).tolist()
    return [[*prefix, *generator.integers(3, 60, 1 + i % 5).tolist()] for i in range(count)]


@pytest.mark.parametrize("shared", [0, 1, 40])
def test_scores_follow_the_definition(shared: int) -> None:
    backend = CountingBackend()
    prompts = [*contexts(shared, 5), [5], *contexts(shared, 3)]
    with ChoiceScorer(backend) as scorer:
        results = list(scorer.score(rows_of(prompts)))
    assert not backend.open
    for prompt, scores in zip(prompts, results, strict=True):
        assert scores == pytest.approx([expected(backend, prompt, choice) for choice in CHOICES], abs=1e-4)


def test_shared_prefixes_are_computed_once_also_across_calls() -> None:
    backend = CountingBackend()
    prompts = contexts(60, 20)
    own = sum(len(prompt) - 60 for prompt in prompts)
    later = len(prompts) * sum(len(choice) - 1 for choice in CHOICES)
    with ChoiceScorer(backend) as scorer:
        list(scorer.score(rows_of(prompts[:10])))
        list(scorer.score(rows_of(prompts[10:])))
    assert backend.num_tokens <= 60 + own + later


def test_another_group_does_not_break_the_sharing() -> None:
    backend = CountingBackend()
    generator = np.random.default_rng(1)
    groups = [generator.integers(3, 60, 50).tolist() for _ in range(3)]
    prompts = [[*group, token] for group in groups for token in (7, 8, 9)]
    with ChoiceScorer(backend) as scorer:
        list(scorer.score([EncodedRow((EncodedChoices(tuple(prompt), ((10,), (11,))),)) for prompt in prompts]))
    assert backend.num_tokens <= 3 * (50 + 3)


def test_a_full_cache_makes_smaller_batches() -> None:
    backend, prompts = CountingBackend(max_sequences=7), contexts(10, 9)
    with ChoiceScorer(backend) as scorer:
        results = list(scorer.score(rows_of(prompts)))
    roomy = CountingBackend()
    for prompt, scores in zip(prompts, results, strict=True):
        assert scores == pytest.approx([expected(roomy, prompt, choice) for choice in CHOICES], abs=1e-4)
    with ChoiceScorer(CountingBackend(max_sequences=1)) as scorer, pytest.raises(CacheFullError):
        list(scorer.score(rows_of(prompts)))


def test_spaces_at_the_end_of_a_prompt_belong_to_the_continuation() -> None:
    text = TextProcessor(ByteTokenizer(), None, add_bos=False)
    (prompt,) = encode_row(text, "ab ", ["c"], 100).prompts
    assert prompt.context == tuple(text.tokenizer.encode("ab"))
    assert prompt.continuations == (tuple(text.tokenizer.encode(" c")),)


def test_a_long_prompt_loses_its_oldest_tokens() -> None:
    """As in the reference: context and continuation together keep one token more than the context length."""
    text = TextProcessor(ByteTokenizer(), None, add_bos=True)
    row = encode_row(text, "abcdefgh", [" x", " yz"], 8)
    assert row.truncated
    assert [len(p.context) + len(p.continuations[0]) for p in row.prompts] == [9, 9]
    assert text.tokenizer.decode(row.prompts[1].context) == "cdefgh"
    backend = TorchBackend(tiny_model(), context_length=8)
    with ChoiceScorer(backend) as scorer:
        (scores,) = scorer.score([row])
    assert len(scores) == 2
