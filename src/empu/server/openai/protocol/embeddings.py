"""Request of OpenAI's embeddings. Source: OpenAI's API reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from empu.server.http.request_model import RequestBody
from empu.server.openai.protocol.completions import TokenIds
from empu.serving.errors import RequestError

MAX_INPUTS = 2048
"""Texts in one request."""


class EmbeddingsRequest(RequestBody):
    """``POST /v1/embeddings``. Token ids include the special tokens. ``truncate`` is an addition of Empu."""

    ignored = ("user",)

    model: str = Field(min_length=1, max_length=256)
    input: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    truncate: bool | None = None
    """Cuts texts that are too long."""

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """The inputs, as texts or token ids. Raises :class:`RequestError` for an empty text."""
        if isinstance(self.input, str):
            inputs: Any = [self.input]
        else:
            inputs = [self.input] if isinstance(self.input[0], int) else self.input
        if not all(inputs):
            message = "input contains an empty text; leave it out."
            raise RequestError(400, message, param="input", code="invalid_value")
        return list(inputs)
