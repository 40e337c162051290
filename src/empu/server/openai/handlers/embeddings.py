"""Handler of embeddings."""

from __future__ import annotations

import base64

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.embed.encoder import FloatArray
from empu.server.http.app_state import add_log_fields, app_state_of
from empu.server.http.body import read_body
from empu.server.openai.protocol.embeddings import EmbeddingsRequest
from empu.serving.errors import RequestError


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    body = await read_body(request, EmbeddingsRequest)
    add_log_fields(request, model=body.model)
    embedded = await app_state_of(request).encoders.embed(body.model, body.inputs, truncate=bool(body.truncate))
    length = len(embedded[0].vector)
    if body.dimensions not in (None, length):
        message = f"dimensions must be {length}, the length of this model's vectors; or leave it out."
        raise RequestError(400, message, param="dimensions", code="unsupported")
    num_tokens = sum(item.num_tokens for item in embedded)
    add_log_fields(request, prompt_tokens=num_tokens)
    encode = _to_base64 if body.encoding_format == "base64" else _to_floats
    data = [{"object": "embedding", "index": i, "embedding": encode(item.vector)} for i, item in enumerate(embedded)]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return JSONResponse({"object": "list", "model": body.model, "data": data, "usage": usage})


def _to_floats(vector: FloatArray) -> list[float]:
    return [float(value) for value in vector]


def _to_base64(vector: FloatArray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
