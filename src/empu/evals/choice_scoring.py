"""Log-likelihoods of given continuations. Tokens that prompts share are computed once.

A batch of prompts begins with their common prefix (description, few-shot examples), which one sequence holds. Each
prompt forks it, and each of its continuations forks the prompt. A continuation of one token costs nothing more.
Texts are split into tokens as lm-evaluation-harness does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from empu.engine.backends.protocol import Backend, Chunk, LogitsNeeded, SequenceId
from empu.errors import CacheFullError, UsageError
from empu.text.base import TextProcessor
from empu.text.common_prefix import common_prefix_length

MAX_BATCH_PROMPTS = 64
MAX_BATCH_TOKENS = 4096
"""Tokens of a batch's prompts after their common prefix."""
MAX_STEP_TOKENS = 1024
"""Tokens of one forward pass."""
MAX_LOGIT_BYTES = 64 << 20
"""Logits that one forward pass returns."""
MIN_SHARED_TOKENS = 32
"""A batch ends before a prompt that shares less with it, if its prompts share at least so many tokens."""

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedChoices:
    """One prompt with its continuations, as token ids."""

    context: Tokens
    continuations: tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """The choices of one row. There are several prompts only where a long one was cut for each choice."""

    prompts: tuple[EncodedChoices, ...]
    truncated: bool = False


def encode_row(text: TextProcessor, prompt: str, continuations: Sequence[str], context_length: int) -> EncodedRow:
    """Split a prompt and its continuations into tokens.

    Spaces at the end of the prompt belong to the continuations. A prompt that does not fit loses its oldest tokens.
    """
    stripped = prompt.rstrip()
    spaces = prompt[len(stripped) :]
    context = tuple(text.tokenizer.encode(stripped, add_bos=text.add_bos))
    if not context:
        raise UsageError("The prompt is empty, and this model has no token that begins a text.")
    choices: list[Tokens] = []
    for continuation in continuations:
        ids = text.tokenizer.encode(stripped + spaces + continuation, add_bos=text.add_bos)
        choices.append(tuple(ids[len(context) :]))
        if not 0 < len(choices[-1]) <= context_length:
            raise UsageError(f"The answer {continuation!r} has {len(choices[-1])} tokens; it cannot be scored.")
    room = context_length + 1  # the last token of a continuation is scored, but never computed
    if len(context) + max(map(len, choices)) <= room:
        return EncodedRow((EncodedChoices(context, tuple(choices)),))
    prompts = tuple(EncodedChoices(context[-(room - len(choice)) :], (choice,)) for choice in choices)
    return EncodedRow(prompts, truncated=True)


class ChoiceScorer:
    """Scores rows on one backend. Use it as a context manager: it holds the sequence of the common prefix."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._prefix: Tokens = ()
        self._prefix_sequence: SequenceId | None = None

    def __enter__(self) -> ChoiceScorer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._prefix_sequence is not None:
            self._backend.release(self._prefix_sequence)
            self._prefix_sequence, self._prefix = None, ()

    def score(self, rows: Sequence[EncodedRow]) -> Iterator[list[float]]:
        """Yield the log-likelihood, in nats, of each choice of each row, in their order."""
        prompts = [prompt for row in rows for prompt in row.prompts]
        scored = self._score_prompts(prompts)
        for row in rows:
            yield [value for _ in row.prompts for value in next(scored)]

    def _score_prompts(self, prompts: Sequence[EncodedChoices]) -> Iterator[list[float]]:
        start = 0
        while start < len(prompts):
            size, prefix_length = _next_batch(prompts, start, self._prefix)
            while True:
                batch = prompts[start : start + size]
                try:
                    results = self._score_batch(batch, batch[0].context[:prefix_length])
                    break
                except CacheFullError:
                    if size == 1:
                        raise
                    size //= 2
            yield from results
            start += size

    def _score_batch(self, batch: Sequence[EncodedChoices], prefix: Tokens) -> list[list[float]]:
        root = self._hold_prefix(prefix)
        sequences: list[SequenceId] = []
        try:
            for prompt in batch:
                capacity = len(prompt.context) + max(map(len, prompt.continuations))
                capacity = min(capacity, self._backend.context_length)
                sequence = (
                    self._backend.allocate(capacity)
                    if root is None
                    else self._backend.fork(root, len(prefix), capacity)
                )
                sequences.append(sequence)
            rests = [prompt.context[len(prefix) :] for prompt in batch]
            logits = self._prefill(sequences, rests)
            results = [
                [float(row[continuation[0]]) for continuation in prompt.continuations]
                for prompt, row in zip(batch, logits, strict=True)
            ]
            self._add_later_tokens(batch, sequences, results)
            return results
        finally:
            for sequence in sequences:
                self._backend.release(sequence)

    def _hold_prefix(self, prefix: Tokens) -> SequenceId | None:
        """Return a sequence that begins with ``prefix``; ``None`` for an empty one."""
        common = common_prefix_length(self._prefix, prefix)
        if common == len(prefix):
            return self._prefix_sequence if prefix else None
        old, backend = self._prefix_sequence, self._backend
        new = backend.allocate(len(prefix)) if old is None else backend.fork(old, common, len(prefix))
        if old is not None:
            backend.release(old)
        self._prefix_sequence, self._prefix = new, prefix[:common]
        for start in range(common, len(prefix), MAX_STEP_TOKENS):
            backend.forward([_chunk(new, prefix[start : start + MAX_STEP_TOKENS], LogitsNeeded.NONE)])
        self._prefix = prefix
        return new

    def _prefill(self, sequences: Sequence[SequenceId], rests: Sequence[Tokens]) -> list[npt.NDArray[np.float32]]:
        """Compute the rest of each prompt. Return the log-probabilities of the token after it, (V,) each."""
        chunks = []
        for sequence, rest in zip(sequences, rests, strict=True):
            while len(rest) > MAX_STEP_TOKENS:
                self._backend.forward([_chunk(sequence, rest[:MAX_STEP_TOKENS], LogitsNeeded.NONE)])
                rest = rest[MAX_STEP_TOKENS:]
            chunks.append(_chunk(sequence, rest, LogitsNeeded.LAST))
        results: list[npt.NDArray[np.float32]] = []
        for step in _steps(chunks, MAX_STEP_TOKENS, self._max_logit_rows()):
            results += [log_softmax(logits)[-1] for logits in self._backend.forward(step)]
        return results

    def _add_later_tokens(
        self, batch: Sequence[EncodedChoices], sequences: Sequence[SequenceId], results: list[list[float]]
    ) -> None:
        """Add to ``results`` the log-probabilities of all tokens of continuations but the first."""
        longer = [
            (p, c) for p, prompt in enumerate(batch) for c, ids in enumerate(prompt.continuations) if len(ids) > 1
        ]
        max_rows, start = self._max_logit_rows(), 0
        while start < len(longer):
            end, rows = start, 0
            while end < len(longer) and (end == start or rows + _later(batch, longer[end]) <= max_rows):
                rows += _later(batch, longer[end])
                end += 1
            part, forks = longer[start:end], []
            try:
                for p, c in part:
                    length = len(batch[p].context)
                    needed = length + len(batch[p].continuations[c]) - 1
                    forks.append(self._backend.fork(sequences[p], length, needed))
                chunks = [
                    _chunk(fork, batch[p].continuations[c][:-1], LogitsNeeded.ALL)
                    for fork, (p, c) in zip(forks, part, strict=True)
                ]
                for (p, c), logits in zip(part, self._backend.forward(chunks), strict=True):
                    results[p][c] += _sum_log_probabilities(logits, batch[p].continuations[c][1:])
            finally:
                for fork in forks:
                    self._backend.release(fork)
            start = end

    def _max_logit_rows(self) -> int:
        return max(1, min(MAX_STEP_TOKENS, MAX_LOGIT_BYTES // (4 * self._backend.config.vocab_size)))


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return log-probabilities along the last axis."""
    shifted: npt.NDArray[np.float32] = logits - logits.max(axis=-1, keepdims=True)
    normaliser: npt.NDArray[np.float32] = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    shifted -= normaliser
    return shifted


def _sum_log_probabilities(logits: npt.NDArray[np.float32], tokens: Tokens) -> float:
    """Sum the log-probabilities of ``tokens`` (T,) under ``logits`` (T, V)."""
    highest = logits.max(axis=-1)
    exponents = np.exp(logits - highest[:, None])
    normalisers = highest + np.log(exponents.sum(axis=-1))
    return float((logits[np.arange(len(tokens)), list(tokens)] - normalisers).sum(dtype=np.float64))


def _next_batch(prompts: Sequence[EncodedChoices], start: int, held: Tokens) -> tuple[int, int]:
    """Return how many prompts the batch from ``start`` has, and the length of their common prefix.

    ``held`` is the prefix of the batch before; a batch does not give up most of what it shares with it.

    Every prompt keeps at least one token after the prefix, for its logits.
    """
    first = prompts[start].context
    prefix_length, total, size = len(first) - 1, len(first), 1
    reused = common_prefix_length(held, first)
    for prompt in prompts[start + 1 : start + MAX_BATCH_PROMPTS]:
        shared = min(common_prefix_length(first[:prefix_length], prompt.context), len(prompt.context) - 1)
        expected = prefix_length if size > 1 else reused
        is_other_group = expected >= MIN_SHARED_TOKENS and shared < expected // 2
        tokens = total + len(prompt.context)
        if is_other_group or tokens - (size + 1) * shared > MAX_BATCH_TOKENS:
            break
        prefix_length, total, size = shared, tokens, size + 1
    return size, prefix_length


def _steps(chunks: Sequence[Chunk], max_tokens: int, max_chunks: int) -> Iterator[list[Chunk]]:
    """Divide chunks into forward passes."""
    step: list[Chunk] = []
    tokens = 0
    for chunk in chunks:
        if step and (tokens + len(chunk.tokens) > max_tokens or len(step) == max_chunks):
            yield step
            step, tokens = [], 0
        step.append(chunk)
        tokens += len(chunk.tokens)
    if step:
        yield step


def _later(batch: Sequence[EncodedChoices], index: tuple[int, int]) -> int:
    """Tokens of a continuation that are computed."""
    return len(batch[index[0]].continuations[index[1]]) - 1


def _chunk(sequence: SequenceId, tokens: Tokens, logits_needed: LogitsNeeded) -> Chunk:
    return Chunk(sequence, np.asarray(tokens, dtype=np.int32), logits_needed)
