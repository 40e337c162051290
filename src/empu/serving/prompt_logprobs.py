"""Log-probabilities of the tokens of a prompt, as evaluation harnesses ask for them (``echo`` with ``logprobs``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from empu.engine.backends.protocol import Chunk, LogitsNeeded
from empu.engine.outputs import TokenLogprobs, TopLogprob
from empu.engine.sampling import log_probabilities
from empu.serving.registry import ServedModel

T = TypeVar("T")

CHUNK_TOKENS = 128
"""Between two chunks the scheduler runs a step for other requests."""


async def prompt_logprobs(served: ServedModel, ids: Sequence[int], num_top: int) -> list[TokenLogprobs]:
    """Return the log-probability of each token after the first, with the ``num_top`` most likely tokens.

    Raises :class:`~empu.errors.QueueFullError`.
    """
    backend = served.model.backend
    tokens = np.asarray(ids, dtype=np.int32)

    async def run(function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(served.scheduler.run_between_steps(function))

    sequence = await run(lambda: backend.allocate(len(ids)))
    scored: list[TokenLogprobs] = []
    try:
        for start in range(0, len(ids) - 1, CHUNK_TOKENS):
            chunk = Chunk(sequence, tokens[start : min(start + CHUNK_TOKENS, len(ids) - 1)], LogitsNeeded.ALL)
            (logits_tv,) = await run(lambda chunk=chunk: backend.forward([chunk]))  # type: ignore[misc]
            next_tokens = ids[start + 1 : start + 1 + len(logits_tv)]
            scored += await asyncio.to_thread(_score, served, logits_tv, next_tokens, num_top)
    finally:
        await run(lambda: backend.release(sequence))
    return scored


def _score(
    served: ServedModel, logits_tv: npt.NDArray[np.float32], next_tokens: Sequence[int], num_top: int
) -> list[TokenLogprobs]:
    decode = served.model.text.tokenizer.decode

    def top_logprob(token: int, values: npt.NDArray[np.float64]) -> TopLogprob:
        return TopLogprob(token, decode([token], keep_special=True), float(values[token]))

    scored = []
    for logits, token in zip(logits_tv, next_tokens, strict=True):
        values = log_probabilities(logits)
        best = np.argsort(-values, kind="stable")[:num_top]
        own = top_logprob(token, values)
        scored.append(TokenLogprobs(token, own.text, own.logprob, tuple(top_logprob(int(i), values) for i in best)))
    return scored


def unscored_token(served: ServedModel, token: int) -> TokenLogprobs:
    """Return the first token of a prompt, which has no log-probability (NaN)."""
    return TokenLogprobs(token, served.model.text.tokenizer.decode([token], keep_special=True), float("nan"), ())
