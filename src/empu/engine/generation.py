"""The state of one generation: logits go in, text comes out. Knows neither backends and batches nor chat messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from empu.engine.outputs import Completion, FinishReason, TextDelta, Timings, TokenLogprobs, TopLogprob
from empu.engine.prompt import EncodedPrompt
from empu.engine.sampling import Sampler, SamplingParams, log_probabilities
from empu.engine.stop_strings import StopBoundary, StopMatcher
from empu.text.base import Tokenizer
from empu.text.tokenizers.stream_decoder import StreamDecoder


class TokenConstraint(Protocol):
    """Restricts which tokens one generation may produce, for example to a grammar."""

    @property
    def stop_boundary(self) -> StopBoundary | None:
        """Text after which stop strings no longer apply, if any."""

    def allowed_tokens(self) -> npt.NDArray[np.bool_] | None:
        """(V,): true for tokens that may come next; ``None`` for all."""

    def accept(self, token: int) -> None:
        """Advance by ``token``."""

    def forced_tokens(self) -> Sequence[int]:
        """Return the tokens that must come next, up to the next choice. Each has yet to be accepted."""


class GenerationState:
    """Samples tokens from logits, decodes them, and detects the end of one generation."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        params: SamplingParams,
        prompt: Sequence[int],
        max_new_tokens: int,
        constraint: TokenConstraint | None = None,
    ) -> None:
        """``max_new_tokens`` is what the context can hold after the prompt, at least 1."""
        self.params = params
        self.sampler = Sampler(params, prompt)
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None
        self._tokenizer = tokenizer
        self._constraint = constraint
        self._max_tokens = max_new_tokens if params.max_tokens is None else min(max_new_tokens, params.max_tokens)
        self._decoder = StreamDecoder(tokenizer)
        self._stops = StopMatcher(params.stop, constraint.stop_boundary if constraint is not None else None)
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprobs] = []

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the generation."""
        return self._stops.matched

    @property
    def logprobs(self) -> tuple[TokenLogprobs, ...] | None:
        """Log-probabilities of every token, if they were requested."""
        return tuple(self._logprobs) if self.params.logprobs is not None else None

    def begin(self) -> TextDelta:
        """Return the tokens that a grammar forces before the first choice; none without a grammar."""
        return self._delta([], ())

    def sample(self, logits: npt.NDArray[np.float32]) -> TextDelta:
        """Sample the next token from ``logits`` (V,). Sets ``finish_reason`` when it is the last."""
        allowed = self._constraint.allowed_tokens() if self._constraint is not None else None
        token = self.sampler.sample(logits, allowed)
        logprobs = (self._token_logprobs(logits, token),) if self.params.logprobs is not None else ()
        self._logprobs += logprobs
        text = self._append(token)
        self._accept(token)
        return self._delta([(token, text)], logprobs)

    def cancel(self) -> TextDelta:
        """End now. Return the text that was still held back."""
        if self.finish_reason is not None:
            return TextDelta("", ())
        self.finish_reason = "cancelled"
        text = self._flush()
        self._texts.append(text)
        return TextDelta(text, ())

    def completion(
        self,
        prompt: EncodedPrompt,
        *,
        cached_tokens: int,
        load_s: float,
        prefill_s: float,
        first_token_s: float,
        decode_s: float,
    ) -> Completion:
        """Return the finished generation, with the times that the caller measured."""
        assert self.finish_reason is not None
        prefill_tokens, decode_tokens = len(prompt.ids) - cached_tokens, max(0, len(self.tokens) - 1)
        return Completion(
            text=self.text,
            finish_reason=self.finish_reason,
            stop_string=self.stop_string,
            prompt_tokens=len(prompt.ids),
            completion_tokens=len(self.tokens),
            dropped_tokens=prompt.dropped_tokens,
            seed=self.sampler.seed,
            timings=Timings(
                load_s=load_s,
                prefill_s=prefill_s,
                first_token_s=first_token_s,
                decode_s=decode_s,
                prefill_tokens_per_s=_rate(prefill_tokens, prefill_s),
                decode_tokens_per_s=_rate(decode_tokens, decode_s),
            ),
            logprobs=self.logprobs,
            cached_tokens=cached_tokens,
        )

    def _delta(self, added: list[tuple[int, str]], logprobs: tuple[TokenLogprobs, ...]) -> TextDelta:
        """Return ``added`` (token, text) pairs and the forced tokens after them."""
        while forced := self._forced_tokens():
            for token in forced:
                self.sampler.record(token)
                added.append((token, self._append(token)))
                if not self._accept(token):
                    break
        return TextDelta("".join(text for _, text in added), tuple(token for token, _ in added), logprobs)

    def _forced_tokens(self) -> Sequence[int]:
        """With log-probabilities no token is forced, since they come from the model only."""
        if self._constraint is None or self.finish_reason is not None or self.params.logprobs is not None:
            return ()
        return self._constraint.forced_tokens()

    def _accept(self, token: int) -> bool:
        """Advance the constraint unless the generation ended. Return whether it goes on."""
        if self._constraint is not None and self.finish_reason is None:
            self._constraint.accept(token)
        return self.finish_reason is None

    def _append(self, token: int) -> str:
        """Append a token and return the text that it completes."""
        self.tokens.append(token)
        if token in self._tokenizer.eos_ids:
            self.finish_reason = "stop"
            text = self._flush()
        else:
            text = self._stops.feed(self._decoder.feed(token))
            if self._stops.matched is not None:
                self.finish_reason = "stop"
            elif len(self.tokens) >= self._max_tokens:
                self.finish_reason = "length"
                text += self._flush()
        self._texts.append(text)
        return text

    def _flush(self) -> str:
        """Return the text that the decoder and the stop strings held back."""
        text = self._stops.feed(self._decoder.flush())
        return text + self._stops.flush()

    def _token_logprobs(self, logits: npt.NDArray[np.float32], token: int) -> TokenLogprobs:
        logprobs = log_probabilities(logits)
        count = min(self.params.logprobs or 0, len(logprobs))
        best = np.argpartition(-logprobs, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
        best = best[np.lexsort((best, -logprobs[best]))]
        top = tuple(TopLogprob(int(i), self._token_text(int(i)), float(logprobs[i])) for i in best)
        return TokenLogprobs(token, self._token_text(token), float(logprobs[token]), top)

    def _token_text(self, token: int) -> str:
        return self._tokenizer.decode([token], keep_special=True)


def _rate(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if tokens and seconds > 0 else None
