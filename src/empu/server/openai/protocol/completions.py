"""Request of OpenAI's text completions. Source: OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from empu.server.http.request_variants import UNLIMITED_TOKENS
from empu.server.openai.protocol.sampling import MAX_N, SamplingRequest
from empu.serving.errors import RequestError

MAX_PROMPTS = 256
MAX_TOKEN_IDS = 1 << 20
"""More than any context holds."""
DEFAULT_MAX_TOKENS = 16
MAX_LOGPROBS = 20

TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1, max_length=MAX_TOKEN_IDS, fail_fast=True)
]


class CompletionRequest(SamplingRequest):
    """``POST /v1/completions``: continues a text."""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    max_tokens: int | None = Field(default=None, ge=0, le=UNLIMITED_TOKENS)
    """0 with ``echo``: scores the prompt only."""
    best_of: int | None = Field(default=None, ge=1, le=MAX_N)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    @model_validator(mode="after")
    def _check_combinations(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != (self.n or 1):
            message = "best_of is supported only if it equals n."
            raise RequestError(400, message, param="best_of", code="unsupported")
        if self.max_tokens == 0 and not self.echo:
            message = "max_tokens of 0 needs echo: true; otherwise the answer would be empty."
            raise RequestError(400, message, param="max_tokens", code="invalid_value")
        return self

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, as texts or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        items: list[Any] = list(self.prompt)
        return [items] if isinstance(items[0], int) else items
