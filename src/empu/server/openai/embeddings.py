"""OpenAI's embeddings."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.embed.encoder import Floats
from empu.server.http.app_state import context_of, note
from empu.server.http.body import read_body
from empu.server.openai.protocol import Ids
from empu.server.openai.tool_protocol import Strict
from empu.serving.errors import ProblemError

MAX_TEXTS = 256
"""In one request."""

IGNORED = ("user",)
REFUSED = ("dimensions",)
"""A vector of this kind of model cannot be shortened; its own length may be named."""


class EmbeddingsRequest(Strict):
    """``POST /v1/embeddings``. Ids hold the special tokens too."""

    model: str = Field(min_length=1, max_length=256)
    input: (
        str
        | Ids
        | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None

    @property
    def texts(self) -> list[str] | list[list[int]]:
        """Texts or token ids. Raises :class:`ProblemError` for an empty one."""
        if isinstance(self.input, str):
            several: Any = [self.input]
        else:
            several = [self.input] if isinstance(self.input[0], int) else self.input
        if not all(several):
            raise ProblemError(400, "input holds an empty text; leave it out.", param="input", code="invalid_value")
        return list(several)


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    asked = await read_body(request, EmbeddingsRequest)
    note(request, model=asked.model)
    found = await context_of(request).encoders.embed(asked.model, asked.texts)
    if asked.dimensions not in (None, len(found[0].vector)):
        length = len(found[0].vector)
        message = f"dimensions must be {length}, the length of this model's vectors, or be left out."
        raise ProblemError(400, message, param="dimensions", code="unsupported")
    tokens = sum(one.tokens for one in found)
    note(request, prompt_tokens=tokens)
    write = _base64 if asked.encoding_format == "base64" else _floats
    data = [{"object": "embedding", "index": i, "embedding": write(one.vector)} for i, one in enumerate(found)]
    counts = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": asked.model, "data": data, "usage": counts})


def _floats(vector: Floats) -> list[float]:
    return [float(value) for value in vector]


def _base64(vector: Floats) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
