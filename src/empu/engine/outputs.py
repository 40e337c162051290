"""What a generation returns: text deltas while it runs, and one completion at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """A token with its natural log-probability under the model, before penalties and temperature."""

    token: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A generated token with its log-probability, and the most likely tokens at its position."""

    token: int
    text: str
    logprob: float
    top: tuple[TopLogprob, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The output of one step: a token, and those that a grammar forces after it.

    ``text`` may be empty while a character or a stop string is incomplete.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()

    def joined_with(self, other: TextDelta) -> TextDelta:
        """Return this delta and the ``other`` after it as one."""
        return TextDelta(self.text + other.text, self.tokens + other.tokens, self.logprobs + other.logprobs)


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds and rates of one generation. A rate is ``None`` where nothing was measured."""

    load_s: float
    """Time to open the model, before this generation."""
    prefill_s: float
    """Prefill of the prompt, without the part that was cached."""
    first_token_s: float
    """From the call to the first token."""
    decode_s: float
    """Decoding the tokens after the first."""
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation."""

    text: str
    finish_reason: FinishReason
    stop_string: str | None
    prompt_tokens: int
    completion_tokens: int
    dropped_tokens: int
    """Tokens that were cut from the prompt, where truncation was allowed."""
    seed: int
    timings: Timings
    logprobs: tuple[TokenLogprobs, ...] | None
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were cached."""

    @classmethod
    def of_text(
        cls, text: str, prompt_tokens: int, completion_tokens: int, logprobs: tuple[TokenLogprobs, ...] | None = None
    ) -> Completion:
        """Return the completion of a text that was chosen without sampling, such as a label."""
        return cls(
            text=text,
            finish_reason="stop",
            stop_string=None,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            dropped_tokens=0,
            seed=0,
            timings=Timings(0.0, 0.0, 0.0, 0.0, None, None),
            logprobs=logprobs,
        )
