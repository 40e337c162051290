"""Sampling: from one row of logits to a token. Knows neither text nor backends.

Order: logit bias, repetition penalty, presence and frequency penalties, temperature, top-k, top-p, min-p (as in
transformers from the repetition penalty on), sample. A removed token has the logit -inf. From the temperature on, the
compiled extension does the same in one call, where it is built.
"""

from __future__ import annotations

import importlib.util
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.errors import CheckpointError, UsageError

_IS_COMPILED = importlib.util.find_spec("empu.engine._native") is not None

Logits = npt.NDArray[np.float32]
"""(V,): one unnormalised log-probability per token of the vocabulary."""

_REMOVED = np.float32(-np.inf)
_BLOCK_SIZE = 256
_MIN_TEMPERATURE = 1e-30
"""Below this temperature float32 could overflow. The most likely tokens have all the probability long before."""

DEFAULT_TEMPERATURE, DEFAULT_TOP_P, DEFAULT_MAX_TOKENS = 0.2, 0.9, 1024
"""Defaults of commands and server. Temperature and top-p are those that the default model's authors recommend."""

_RANGES: Mapping[str, tuple[float, float, str]] = {
    "temperature": (0.0, 100.0, "a number from 0 to 100"),
    "top_p": (1e-9, 1.0, "a number above 0 and at most 1"),
    "min_p": (0.0, 1.0, "a number from 0 to 1"),
    "repetition_penalty": (1e-9, 10.0, "a number above 0 and at most 10"),
    "presence_penalty": (-10.0, 10.0, "a number from -10 to 10"),
    "frequency_penalty": (-10.0, 10.0, "a number from -10 to 10"),
}
_INTEGER_RANGES: Mapping[str, tuple[int, int]] = {
    "top_k": (1, 1 << 30),
    "max_tokens": (1, 1 << 30),
    "seed": (0, (1 << 63) - 1),
    "logprobs": (0, 100),
}
_OPTIONAL = {"top_k", "top_p", "min_p", "max_tokens", "seed", "logprobs"}


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are sampled and where the text ends. Values out of range raise :class:`~empu.errors.UsageError`."""

    temperature: float = 1.0
    """0 takes the most likely token."""
    top_p: float | None = None
    """Keep the most likely tokens whose probabilities together reach this value."""
    top_k: int | None = None
    """Keep the k most likely tokens (and those that tie with the last of them)."""
    min_p: float | None = None
    """Remove tokens with less than this fraction of the highest probability."""
    repetition_penalty: float = 1.0
    """Above 1, tokens of the prompt and the answer become less likely ("CTRL", Keskar et al. 2019)."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of each token that the answer contains (OpenAI)."""
    frequency_penalty: float = 0.0
    """Subtracted once for each occurrence of the token in the answer (OpenAI)."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, value) pairs: each value is added to the logit of its token, before the penalties (OpenAI)."""
    seed: int | None = None
    """``None`` chooses a random seed; the completion reports it."""
    max_tokens: int | None = None
    """``None``: as many as the context holds."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these strings."""
    logprobs: int | None = None
    """Report log-probabilities, each with this many most likely alternatives."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value: Any = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if name in _RANGES:
                low, high, expected = _RANGES[name]
                if not _is_number(value) or not low <= value <= high:
                    raise UsageError(f"{name} is {value!r}; give {expected}.")
            elif name in _INTEGER_RANGES:
                minimum, maximum = _INTEGER_RANGES[name]
                if not _is_integer(value) or not minimum <= value <= maximum:
                    raise UsageError(f"{name} is {value!r}; give a whole number from {minimum} to {maximum}.")
        if not all(_is_integer(token) and token >= 0 and _is_number(value) for token, value in self.logit_bias):
            raise UsageError(f"logit_bias is {self.logit_bias!r}; give pairs of a token id and a number.")
        stop: Any = self.stop
        if not isinstance(stop, tuple) or not all(isinstance(text, str) and text for text in stop):
            raise UsageError(f"stop is {self.stop!r}; give texts of at least one character.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Sampler:
    """Samples the tokens of one answer. The same prompt, parameters and logits give the same tokens."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int] = ()) -> None:
        self.params = params
        self.seed = params.seed if params.seed is not None else secrets.randbits(53)
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        self._seen = _TokenSet(prompt) if params.repetition_penalty != 1.0 else None
        self._counts: dict[int, int] = {}

    def sample(self, logits: Logits, allowed: npt.NDArray[np.bool_] | None = None) -> int:
        """Return the next token, an index of ``logits`` (V,). ``allowed`` (V,) excludes tokens where it is false."""
        params = self.params
        if allowed is not None:
            logits = np.where(allowed, logits, _REMOVED)
        if params.logit_bias:
            logits = apply_logit_bias(logits, params.logit_bias)
        if self._seen is not None:
            logits = apply_repetition_penalty(logits, self._seen.ids, params.repetition_penalty)
        if self._counts and (params.presence_penalty or params.frequency_penalty):
            logits = apply_presence_penalty(logits, self._counts, params.presence_penalty, params.frequency_penalty)
        most_likely = int(logits.argmax())  # the first NaN, where there is one
        if not math.isfinite(logits[most_likely]):
            raise CheckpointError(
                "The model's logits are not finite, so no token can be sampled: its weights are damaged; fetch the "
                "model again."
            )
        token = most_likely if params.temperature == 0.0 else self._sample_with_temperature(logits)
        self.record(token)
        return token

    def record(self, token: int) -> None:
        """Count a token of the answer, sampled or forced, for the penalties."""
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._seen is not None:
            self._seen.add(token)

    def _sample_with_temperature(self, logits: Logits) -> int:
        uniform = float(self._random.random())
        return (_sample_native if _IS_COMPILED else _sample_numpy)(logits, self.params, uniform)


class _TokenSet:
    """A set of token ids that is also an array."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._members = set(tokens)
        self._array = np.fromiter(self._members, dtype=np.int64, count=len(self._members))

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """(N,)"""
        return self._array[: len(self._members)]

    def add(self, token: int) -> None:
        """Add a token unless it is a member."""
        if token in self._members:
            return
        if len(self._members) == len(self._array):
            self._array = np.resize(self._array, 2 * len(self._array) + 64)
        self._array[len(self._members)] = token
        self._members.add(token)


def apply_repetition_penalty(logits: Logits, seen: Sequence[int] | npt.NDArray[np.int64], penalty: float) -> Logits:
    """Divide positive and multiply negative logits of the ``seen`` tokens by ``penalty``."""
    result = logits.copy()
    ids = np.asarray(seen, dtype=np.int64)
    values = result[ids]
    result[ids] = np.where(values > 0, values / np.float32(penalty), values * np.float32(penalty))
    return result


def apply_logit_bias(logits: Logits, bias: Sequence[tuple[int, float]]) -> Logits:
    """Add a value to the logit of each listed token. Removed tokens stay removed."""
    out = logits.copy()
    for token, value in bias:
        out[token] += np.float32(value)
    return out


def apply_presence_penalty(logits: Logits, counts: Mapping[int, int], presence: float, frequency: float) -> Logits:
    """Subtract ``presence`` once and ``frequency`` per occurrence from the logits of the tokens in ``counts``."""
    result = logits.copy()
    for token, count in counts.items():
        result[token] -= np.float32(presence + frequency * count)
    return result


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Divide by ``temperature`` (> 0), with the highest logit at 0 so that nothing overflows."""
    scaled: Logits = (logits - logits.max()) / np.float32(max(temperature, _MIN_TEMPERATURE))
    return scaled


def apply_top_k(logits: Logits, k: int) -> Logits:
    """Remove all but the ``k`` highest logits; those equal to the k-th stay."""
    if k >= len(logits):
        return logits
    threshold = np.partition(logits, -k)[-k]
    return np.where(logits < threshold, _REMOVED, logits)


def apply_top_p(logits: Logits, p: float) -> Logits:
    """Remove all but the smallest set of most likely tokens whose probability is at least ``p``; never empty."""
    if p >= 1.0:
        return logits
    probabilities = np.exp(logits - logits.max())
    total = float(probabilities.sum(dtype=np.float64))
    # Sorting the whole vocabulary would take longer than a step of a small model. The most likely few nearly always do.
    for floor in (1e-3, 1e-6, 0.0):
        candidates = np.flatnonzero(probabilities >= floor)
        order = candidates[np.argsort(-logits[candidates], kind="stable")]  # different logits may have one probability
        cumulative = np.cumsum(probabilities[order], dtype=np.float64)
        if cumulative[-1] >= p * total or floor == 0.0:
            break
    count = int(np.searchsorted(cumulative, p * total)) + 1
    result = np.full_like(logits, _REMOVED)
    result[order[:count]] = logits[order[:count]]
    return result


def apply_min_p(logits: Logits, p: float) -> Logits:
    """Remove tokens that are less than ``p`` times as likely as the most likely one."""
    if p <= 0.0:
        return logits
    return np.where(logits < logits.max() + np.float32(math.log(p)), _REMOVED, logits)


def process_logits(logits: Logits, params: SamplingParams) -> Logits:
    """Apply temperature (> 0), top-k, top-p and min-p."""
    logits = apply_temperature(logits, params.temperature)
    if params.top_k is not None:
        logits = apply_top_k(logits, params.top_k)
    if params.top_p is not None:
        logits = apply_top_p(logits, params.top_p)
    if params.min_p is not None:
        logits = apply_min_p(logits, params.min_p)
    return logits


def sample_token(logits: Logits, uniform: float) -> int:
    """Return the token at ``uniform`` in [0, 1) of the cumulative distribution, in order of ids.

    The highest of ``logits`` is 0, as :func:`apply_temperature` leaves it. Sums of blocks come first, then the one
    block that matters: a running sum over the vocabulary takes seven times as long.
    """
    weights = np.exp(logits)
    cumulative = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK_SIZE)), dtype=np.float64)
    target = uniform * cumulative[-1]
    block = min(int(np.searchsorted(cumulative, target, side="right")), len(cumulative) - 1)
    before = cumulative[block - 1] if block else 0.0
    in_block = np.cumsum(weights[block * _BLOCK_SIZE : (block + 1) * _BLOCK_SIZE], dtype=np.float64)
    token = block * _BLOCK_SIZE + min(int(np.searchsorted(in_block, target - before, side="right")), len(in_block) - 1)
    # Rounding can lead past the last token of the block with any probability.
    return token if weights[token] > 0 else int(np.flatnonzero(weights[: token + 1])[-1])


def _sample_numpy(logits: Logits, params: SamplingParams, uniform: float) -> int:
    return sample_token(process_logits(logits, params), uniform)


def _sample_native(logits: Logits, params: SamplingParams, uniform: float) -> int:
    from empu.engine import _native

    temperature = max(params.temperature, _MIN_TEMPERATURE)
    return _native.sample(logits, temperature, params.top_k or 0, params.top_p or 1.0, params.min_p or 0.0, uniform)


def log_probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """(V,) natural logarithms of the softmax, in float64."""
    shifted = logits.astype(np.float64) - float(logits.max())
    result: npt.NDArray[np.float64] = shifted - math.log(float(np.exp(shifted).sum()))
    return result
