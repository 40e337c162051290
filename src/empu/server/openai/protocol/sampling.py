"""Properties that chat and text completions share. Source: OpenAI's API reference."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from empu.engine.sampling import DEFAULT_MAX_TOKENS, SamplingParams
from empu.server.http.request_model import LenientModel, RequestBody
from empu.server.http.request_variants import MAX_TEMPERATURE, UNLIMITED_TOKENS, normalise_sampling
from empu.serving.sampling_defaults import apply_sampling_defaults

MAX_N = 8
MAX_STOP_STRINGS = 16
"""OpenAI allows 4; evaluation harnesses send more."""
MAX_STOP_LENGTH = 200
MAX_BIASED_TOKENS = 1024

StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]

LogitBias = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=MAX_BIASED_TOKENS),
]
"""Token id -> the value that is added to its logit."""


class StreamOptions(LenientModel):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingRequest(RequestBody):
    """Shared properties. ``top_k``, ``min_p`` and ``repetition_penalty`` are additions of Empu."""

    ignored = (
        "metadata", "moderation", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "reasoning_effort", "safety_identifier", "service_tier", "store", "user", "verbosity",
    )  # fmt: skip
    """Properties about OpenAI's accounts, caches, data centres and reasoning models."""
    refused = ("audio", "suffix", "web_search_options")

    model: str = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1, le=UNLIMITED_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=MAX_TEMPERATURE)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=1 << 30)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: LogitBias | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_N)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS, fail_fast=True)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_common_variants(cls, value: Any) -> Any:
        return normalise_sampling(value) if isinstance(value, dict) else value

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a chunk of token counts."""
        return bool(self.stream) and self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling_params(self, *, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """Return the sampling parameters, with defaults."""
        temperature, top_p = apply_sampling_defaults(self.temperature, self.top_p)
        return SamplingParams(
            temperature=temperature,
            top_p=top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple((int(token), value) for token, value in (self.logit_bias or {}).items()),
            seed=None if self.seed is None else self.seed & ((1 << 63) - 1),
            max_tokens=max_tokens or DEFAULT_MAX_TOKENS,
            stop=self.stop_strings,
            logprobs=logprobs,
        )
