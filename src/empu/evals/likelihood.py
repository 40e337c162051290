"""The probability that a language model gives to a known answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from empu.engine.backends.protocol import Chunk, LogitsNeeded
from empu.engine.language_model import LanguageModel


def answer_logits(model: LanguageModel, prompt: Sequence[int], answer: Sequence[int]) -> NDArray[np.float32]:
    """(tokens of the answer, vocabulary): logits at each position of a known answer (teacher forcing)."""
    ids = np.array([*prompt, *answer[:-1]], dtype=np.int32)
    sequence = model.backend.allocate(len(ids))
    try:
        if len(prompt) > 1:
            model.backend.forward([Chunk(sequence, ids[: len(prompt) - 1], LogitsNeeded.NONE)])
        (logits,) = model.backend.forward([Chunk(sequence, ids[len(prompt) - 1 :], LogitsNeeded.ALL)])
    finally:
        model.backend.release(sequence)
    return logits


def answer_log_probability(model: LanguageModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Return the sum over the answer's tokens of their log-probabilities, in nats."""
    logits = answer_logits(model, prompt, answer).astype(np.float64)
    highest = logits.max(axis=1, keepdims=True)
    log_normaliser = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return float((logits[np.arange(len(answer)), list(answer)] - log_normaliser).sum())
