"""One answer in the making: logits go in, text comes out. Backends and batches stand below, dialogues above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from empu.engine.sampling import Sampler, SamplingParams, log_probabilities
from empu.engine.stop_strings import StopMatcher, Until
from empu.text.base import Tokenizer
from empu.text.tokenizers.stream_decoder import StreamDecoder

FinishReason = Literal["stop", "length", "cancelled"]


class Guide(Protocol):
    """Keeps one answer inside a grammar."""

    @property
    def until(self) -> Until | None:
        """Where stop strings cease to count, if anywhere."""

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """(V,): the tokens that may come next; ``None`` for all."""

    def accept(self, token: int) -> None:
        """Go on behind ``token``."""

    def forced(self) -> Sequence[int]:
        """The tokens that must come next, up to the next choice; each is still to be accepted."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token with its natural log-probability under the model, before penalties and temperature."""

    token: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A chosen token and the likeliest ones at its place."""

    token: int
    text: str
    logprob: float
    top: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added: a token, and those that a grammar forces behind it. ``text`` may be empty while a character
    or a stop string is incomplete.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()

    def followed_by(self, other: Piece) -> Piece:
        """Both as one."""
        return Piece(self.text + other.text, self.tokens + other.tokens, self.logprobs + other.logprobs)


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds and rates of one answer; a rate is ``None`` where nothing was measured."""

    load_s: float
    """Opening the model, before this answer."""
    prefill_s: float
    """Reading the prompt, but for the part that the cache already held."""
    first_token_s: float
    """From the call to the first token."""
    decode_s: float
    """Writing the tokens after the first."""
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer."""

    text: str
    finish_reason: FinishReason
    stop_string: str | None
    prompt_tokens: int
    completion_tokens: int
    dropped_tokens: int
    """Tokens that were cut from the prompt because that was asked for."""
    seed: int
    timings: Timings
    logprobs: tuple[TokenLogprobs, ...] | None
    cached_tokens: int = 0
    """Tokens of the prompt that did not have to be read again."""


class AnswerState:
    """Chooses tokens from logits, decodes them and watches for the end of one answer."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        params: SamplingParams,
        prompt: Sequence[int],
        room: int,
        guide: Guide | None = None,
    ) -> None:
        """``room`` is how many tokens the context can still hold after the prompt (at least 1)."""
        self.params = params
        self.sampler = Sampler(params, prompt)
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None
        self._tokenizer = tokenizer
        self._guide = guide
        self._limit = min(room, params.max_tokens) if params.max_tokens is not None else room
        self._decoder = StreamDecoder(tokenizer)
        self._stops = StopMatcher(params.stop, guide.until if guide is not None else None)
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprobs] = []

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.found

    @property
    def logprobs(self) -> tuple[TokenLogprobs, ...] | None:
        """Of every token, if they were asked for."""
        return tuple(self._logprobs) if self.params.logprobs is not None else None

    def begin(self) -> Piece:
        """What a grammar forces before anything is chosen; nothing without one."""
        return self._piece([], ())

    def take(self, logits: npt.NDArray[np.float32]) -> Piece:
        """Choose the next token from ``logits`` (V,); sets ``finish_reason`` when it was the last."""
        token = self.sampler.choose(logits, self._guide.allowed() if self._guide is not None else None)
        logprobs = (self._describe(logits, token),) if self.params.logprobs is not None else ()
        self._logprobs += logprobs
        text = self._add(token)
        self._accept(token)
        return self._piece([(token, text)], logprobs)

    def _piece(self, added: list[tuple[int, str]], logprobs: tuple[TokenLogprobs, ...]) -> Piece:
        """With the tokens that are forced next, unless probabilities are asked for: those come from the model only."""
        while forced := self._forced():
            for token in forced:
                self.sampler.note(token)
                added.append((token, self._add(token)))
                if not self._accept(token):
                    break
        return Piece("".join(text for _, text in added), tuple(token for token, _ in added), logprobs)

    def _forced(self) -> Sequence[int]:
        if self._guide is None or self.finish_reason is not None or self.params.logprobs is not None:
            return ()
        return self._guide.forced()

    def _accept(self, token: int) -> bool:
        """Tell the guide, unless the answer ended; whether it goes on."""
        if self._guide is not None and self.finish_reason is None:
            self._guide.accept(token)
        return self.finish_reason is None

    def _add(self, token: int) -> str:
        """Append a token; the text that it completes."""
        self.tokens.append(token)
        if token in self._tokenizer.eos_ids:
            self.finish_reason = "stop"
            text = self._rest()
        else:
            text = self._stops.feed(self._decoder.feed(token))
            if self._stops.found is not None:
                self.finish_reason = "stop"
            elif len(self.tokens) >= self._limit:
                self.finish_reason = "length"
                text += self._rest()
        self._texts.append(text)
        return text

    def cancel(self) -> Piece:
        """End here; gives the text that was still held back."""
        if self.finish_reason is not None:
            return Piece("", ())
        self.finish_reason = "cancelled"
        rest = self._rest()
        self._texts.append(rest)
        return Piece(rest, ())

    def _rest(self) -> str:
        text = self._stops.feed(self._decoder.flush())
        return text + self._stops.flush()

    def _describe(self, logits: npt.NDArray[np.float32], token: int) -> TokenLogprobs:
        values = log_probabilities(logits)
        count = min(self.params.logprobs or 0, len(values))
        best = np.argpartition(-values, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
        best = best[np.lexsort((best, -values[best]))]
        top = tuple(Alternative(int(i), self._spell(int(i)), float(values[i])) for i in best)
        return TokenLogprobs(token, self._spell(token), float(values[token]), top)

    def _spell(self, token: int) -> str:
        return self._tokenizer.decode([token], keep_special=True)
