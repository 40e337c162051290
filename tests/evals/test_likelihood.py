"""Log-probabilities of known answers."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from empu.engine.language_model import LanguageModel
from empu.evals.likelihood import answer_log_probability, answer_logits


class BigramBackend:
    """A model whose logits depend on the previous token only."""

    def __init__(self) -> None:
        self.logits = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
        self.open_sequences = 0

    def allocate(self, capacity: int) -> int:
        self.open_sequences += 1
        return 0

    def release(self, sequence: int) -> None:
        self.open_sequences -= 1

    def forward(self, chunks: list[Any]) -> list[Any]:
        return [self.logits[chunk.tokens] for chunk in chunks]


class BigramModel:
    def __init__(self) -> None:
        self.backend = BigramBackend()


def test_the_log_probability_is_the_sum_over_the_answers_tokens() -> None:
    bigram = BigramModel()
    model = cast(LanguageModel, bigram)
    log_probabilities = bigram.backend.logits - np.log(np.exp(bigram.backend.logits).sum(axis=1, keepdims=True))
    expected = log_probabilities[2, 3] + log_probabilities[3, 5]
    assert answer_log_probability(model, [1, 2], [3, 5]) == pytest.approx(expected, abs=1e-5)
    assert answer_logits(model, [1, 2], [3, 5]).shape == (2, 7)
    assert bigram.backend.open_sequences == 0
