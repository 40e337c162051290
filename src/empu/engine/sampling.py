"""From logits to a token: pure functions over one row of logits, and the order in which they apply.

Order, as in transformers: repetition penalty, presence and frequency penalties, temperature, top-k, top-p, min-p, draw.
A removed token has the logit -inf. Nothing here knows of text or backends. From the temperature on, the compiled
extension does the same in one call, where there is one.
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

_COMPILED = importlib.util.find_spec("empu.engine._native") is not None

Logits = npt.NDArray[np.float32]
"""(V,): one unnormalised log-probability per token of the vocabulary."""

_REMOVED = np.float32(-np.inf)
_BLOCK = 256
_COLDEST = 1e-30
"""Below this temperature float32 could overflow; the likeliest tokens have all the probability long before."""

_RANGES: Mapping[str, tuple[float, float, str]] = {
    "temperature": (0.0, 100.0, "a number from 0 to 100"),
    "top_p": (1e-9, 1.0, "a number above 0 and at most 1"),
    "min_p": (0.0, 1.0, "a number from 0 to 1"),
    "repetition_penalty": (1e-9, 10.0, "a number above 0 and at most 10"),
    "presence_penalty": (-10.0, 10.0, "a number from -10 to 10"),
    "frequency_penalty": (-10.0, 10.0, "a number from -10 to 10"),
}
_COUNTS: Mapping[str, tuple[int, int]] = {
    "top_k": (1, 1 << 30),
    "max_tokens": (1, 1 << 30),
    "seed": (0, (1 << 63) - 1),
    "logprobs": (0, 100),
}
USUAL_TEMPERATURE, USUAL_TOP_P, USUAL_TOKENS = 0.2, 0.9, 1024
"""For whoever names none: as the makers of the default model advise, and a length that ends."""
_OPTIONAL = {"top_k", "top_p", "min_p", "max_tokens", "seed", "logprobs"}


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How an answer is drawn and where it ends. Raises :class:`~empu.errors.UsageError` for values out of range."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float | None = None
    """Keep the likeliest tokens whose probabilities together reach this."""
    top_k: int | None = None
    """Keep the k likeliest tokens (and those that tie with the last of them)."""
    min_p: float | None = None
    """Drop tokens below this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens of the prompt and the answer less likely ("CTRL", Keskar et al. 2019)."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of each token that the answer holds (OpenAI)."""
    frequency_penalty: float = 0.0
    """Subtracted for each time that the answer holds the token (OpenAI)."""
    seed: int | None = None
    """``None`` draws one; the completion tells which."""
    max_tokens: int | None = None
    """``None``: as many as the context holds."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these texts."""
    logprobs: int | None = None
    """Report log-probabilities, each with this many likeliest alternatives."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value: Any = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if name in _RANGES:
                low, high, expected = _RANGES[name]
                if not _is_number(value) or not low <= value <= high:
                    raise UsageError(f"{name} is {value!r}; give {expected}.")
            elif name in _COUNTS:
                least, most = _COUNTS[name]
                if not _is_whole(value) or not least <= value <= most:
                    raise UsageError(f"{name} is {value!r}; give a whole number from {least} to {most}.")
        stop: Any = self.stop
        if not isinstance(stop, tuple) or not all(isinstance(text, str) and text for text in stop):
            raise UsageError(f"stop is {self.stop!r}; give texts of at least one character.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def penalise_repetition(logits: Logits, seen: Sequence[int] | npt.NDArray[np.int64], penalty: float) -> Logits:
    """Divide the positive and multiply the negative logits of ``seen`` tokens by ``penalty``, each of them once."""
    changed = logits.copy()
    ids = np.asarray(seen, dtype=np.int64)
    values = changed[ids]
    changed[ids] = np.where(values > 0, values / np.float32(penalty), values * np.float32(penalty))
    return changed


def penalise_presence(logits: Logits, counts: Mapping[int, int], presence: float, frequency: float) -> Logits:
    """Subtract ``presence`` once and ``frequency`` per occurrence from the logits of the tokens in ``counts``."""
    changed = logits.copy()
    for token, count in counts.items():
        changed[token] -= np.float32(presence + frequency * count)
    return changed


def scale_temperature(logits: Logits, temperature: float) -> Logits:
    """Logits divided by ``temperature`` (> 0), with the highest at 0 so that nothing overflows."""
    scaled: Logits = (logits - logits.max()) / np.float32(max(temperature, _COLDEST))
    return scaled


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Remove all but the ``k`` highest logits; those equal to the k-th stay."""
    if k >= len(logits):
        return logits
    threshold = np.partition(logits, -k)[-k]
    return np.where(logits < threshold, _REMOVED, logits)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Remove all but the smallest set of likeliest tokens whose probability is at least ``p``; never empty."""
    if p >= 1.0:
        return logits
    probabilities = np.exp(logits - logits.max())
    total = float(probabilities.sum(dtype=np.float64))
    # Sorting the whole vocabulary would take longer than a step of a small model; the likeliest few nearly always do.
    for floor in (1e-3, 1e-6, 0.0):
        candidates = np.flatnonzero(probabilities >= floor)
        order = candidates[np.argsort(-logits[candidates], kind="stable")]  # different logits may have one probability
        reached = np.cumsum(probabilities[order], dtype=np.float64)
        if reached[-1] >= p * total or floor == 0.0:
            break
    count = int(np.searchsorted(reached, p * total)) + 1
    kept = np.full_like(logits, _REMOVED)
    kept[order[:count]] = logits[order[:count]]
    return kept


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Remove tokens that are less than ``p`` times as likely as the likeliest."""
    if p <= 0.0:
        return logits
    return np.where(logits < logits.max() + np.float32(math.log(p)), _REMOVED, logits)


def filtered(logits: Logits, params: SamplingParams) -> Logits:
    """Scaled by the temperature (> 0), and without what top-k, top-p and min-p remove."""
    logits = scale_temperature(logits, params.temperature)
    if params.top_k is not None:
        logits = keep_top_k(logits, params.top_k)
    if params.top_p is not None:
        logits = keep_top_p(logits, params.top_p)
    if params.min_p is not None:
        logits = keep_min_p(logits, params.min_p)
    return logits


def draw(logits: Logits, uniform: float) -> int:
    """The token at ``uniform`` in [0, 1) of the cumulative distribution, in order of ids.

    The highest of ``logits`` is 0, as :func:`scale_temperature` leaves it and no filter changes it.

    Sums of blocks first, then the one block that matters: a running sum over the vocabulary takes seven times as long.
    """
    weights = np.exp(logits)
    reached = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)), dtype=np.float64)
    target = uniform * reached[-1]
    block = min(int(np.searchsorted(reached, target, side="right")), len(reached) - 1)
    before = reached[block - 1] if block else 0.0
    inside = np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    token = block * _BLOCK + min(int(np.searchsorted(inside, target - before, side="right")), len(inside) - 1)
    # Rounding can lead past the last token of the block that is likely at all.
    return token if weights[token] > 0 else int(np.flatnonzero(weights[: token + 1])[-1])


def log_probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """(V,) natural logarithms of the softmax, in float64."""
    shifted = logits.astype(np.float64) - float(logits.max())
    result: npt.NDArray[np.float64] = shifted - math.log(float(np.exp(shifted).sum()))
    return result


def _draw_on_arrays(logits: Logits, params: SamplingParams, uniform: float) -> int:
    return draw(filtered(logits, params), uniform)


def _draw_in_one(logits: Logits, params: SamplingParams, uniform: float) -> int:
    from empu.engine import _native

    temperature = max(params.temperature, _COLDEST)
    return _native.draw(logits, temperature, params.top_k or 0, params.top_p or 1.0, params.min_p or 0.0, uniform)


class Sampler:
    """Draws the tokens of one answer. The same prompt, parameters and logits give the same tokens."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int] = ()) -> None:
        self.params = params
        self.seed = params.seed if params.seed is not None else secrets.randbits(53)
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        self._seen = _Seen(prompt) if params.repetition_penalty != 1.0 else None
        self._counts: dict[int, int] = {}

    def choose(self, logits: Logits, allowed: npt.NDArray[np.bool_] | None = None) -> int:
        """The next token: an index of ``logits`` (V,), for which ``allowed`` (V,) is true where it is given."""
        params = self.params
        if allowed is not None:
            logits = np.where(allowed, logits, _REMOVED)
        if self._seen is not None:
            logits = penalise_repetition(logits, self._seen.ids, params.repetition_penalty)
        if self._counts and (params.presence_penalty or params.frequency_penalty):
            logits = penalise_presence(logits, self._counts, params.presence_penalty, params.frequency_penalty)
        likeliest = int(logits.argmax())  # the first that is no number, where there is one
        if not math.isfinite(logits[likeliest]):
            raise CheckpointError(
                "The model gives numbers that are not finite, so nothing can be answered: its weights are damaged; "
                "fetch it again."
            )
        token = likeliest if params.temperature == 0.0 else self._draw(logits)
        self.note(token)
        return token

    def note(self, token: int) -> None:
        """Count a token of the answer, chosen here or forced, for the penalties."""
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._seen is not None:
            self._seen.add(token)

    def _draw(self, logits: Logits) -> int:
        uniform = float(self._random.random())
        return (_draw_in_one if _COMPILED else _draw_on_arrays)(logits, self.params, uniform)


class _Seen:
    """Different tokens, in an array that grows."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._members = set(tokens)
        self._array = np.fromiter(self._members, dtype=np.int64, count=len(self._members))

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """(N,)"""
        return self._array[: len(self._members)]

    def add(self, token: int) -> None:
        """One more, unless it is there already."""
        if token in self._members:
            return
        if len(self._members) == len(self._array):
            self._array = np.resize(self._array, 2 * len(self._array) + 64)
        self._array[len(self._members)] = token
        self._members.add(token)
