"""OpenAI's interface: models and text completions; what belongs to dialogues stands in modules of its own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from empu.engine.generation import Completion, Piece, TokenLogprobs
from empu.engine.prompt import Prompt
from empu.errors import UsageError
from empu.server.http.app_state import context_of, note, note_usage
from empu.server.http.body import read_body
from empu.server.openai.chat import chat_completions
from empu.server.openai.common import data, event_stream, usage
from empu.server.openai.embeddings import embeddings
from empu.server.openai.protocol import CompletionRequest
from empu.server.openai.responses import responses
from empu.serving.completions import Answers, Asked, alike
from empu.serving.errors import ProblemError
from empu.serving.registry import Served
from empu.serving.service import make_guides, no_stops, own_schema

Json = dict[str, Any]


async def models(request: Request) -> Response:
    """``GET /v1/models``, as both OpenAI's and Anthropic's clients read it."""
    listed = [_model(*one) for one in (await _names(request)).items()]
    ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]} if listed else {"first_id": None, "last_id": None}
    return JSONResponse({"object": "list", "data": listed, "has_more": False, **ends})


async def model(request: Request) -> Response:
    """``GET /v1/models/{model}``."""
    names, name = await _names(request), request.path_params["model"]
    if name not in names:
        raise ProblemError(404, f"There is no model called {name!r} here.", param="model", code="model_not_found")
    return JSONResponse(_model(name, names[name]))


async def _names(request: Request) -> dict[str, int]:
    """Models that talk and models that embed, each with the second since 1970 in which it came."""
    context = context_of(request)
    return await asyncio.to_thread(lambda: {**dict.fromkeys(context.encoders.names(), 0), **context.catalogue.names()})


def _model(name: str, created: int) -> Json:
    openai = {"object": "model", "created": created, "owned_by": "empu"}
    created_at = datetime.fromtimestamp(created, UTC).isoformat()
    anthropic = {"type": "model", "display_name": name, "created_at": created_at, "lifecycle": "active"}
    return {"id": name, **openai, **anthropic}


async def completions(request: Request) -> Response:
    """``POST /v1/completions``."""
    asked = await read_body(request, CompletionRequest)
    note(request, model=asked.model, stream=bool(asked.stream))
    params = asked.sampling(max_tokens=asked.max_tokens or 16, logprobs=asked.logprobs)
    served = await context_of(request).catalogue.get(asked.model)
    if served.label_task is not None:
        message = f"{asked.model} answers with labels; ask it through /v1/chat/completions."
        raise ProblemError(400, message, param="model", code="unsupported")
    if (own := own_schema(served)) is not None:
        no_stops(params, f"the form that {served.name} was tuned to")
    several: list[Asked] = []
    heads: list[str] = []
    n = asked.n or 1
    for given in asked.prompts:
        prompt = await served.encode(given) if isinstance(given, str) else _checked(served, given)
        several += alike(prompt, params, n, await make_guides(served, None, own, "model", n))
        head = given if isinstance(given, str) else served.model.text.tokenizer.decode(given)
        heads += [head if asked.echo else ""] * n
    answers = Answers(request, served, several)
    shape = _Text(asked.model, served)
    if asked.stream:
        include_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return event_stream(_text_events(request, shape, answers, heads, n, include_usage))
    found = await answers.all()
    note_usage(request, found, n)
    choices = [shape.choice(i, heads[i] + one.text, one.finish_reason, one.logprobs, 0) for i, one in enumerate(found)]
    return JSONResponse(shape.wrap(choices) | {"usage": usage(found, n)})


async def _text_events(
    request: Request, shape: _Text, answers: Answers, heads: list[str], n: int, include_usage: bool
) -> AsyncIterator[str]:
    found: dict[int, Completion] = {}
    extra: Json = {"usage": None} if include_usage else {}
    offsets = [0] * len(heads)
    for index, head in enumerate(heads):
        if head:
            yield data(shape.wrap([shape.choice(index, head, None, None, 0)]) | extra)
    async for index, update in answers:
        if isinstance(update, Piece):
            if update.text or update.logprobs:
                choice = shape.choice(index, update.text, None, update.logprobs or None, offsets[index])
                offsets[index] += sum(len(token.text) for token in update.logprobs)
                yield data(shape.wrap([choice]) | extra)
        else:
            found[index] = update
            yield data(shape.wrap([shape.choice(index, "", update.finish_reason, None, 0)]) | extra)
    in_order = [found[index] for index in sorted(found)]
    note_usage(request, in_order, n)
    if include_usage:
        yield data(shape.wrap([]) | {"usage": usage(in_order, n)})
    yield "data: [DONE]\n\n"


class _Text:
    """Puts answers into the shape of text completions."""

    def __init__(self, name: str, served: Served) -> None:
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._name = name
        self._engine = served.model.backend.name

    def wrap(self, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._name,
            "system_fingerprint": self._engine,
            "choices": choices,
        }

    def choice(
        self, index: int, text: str, finish: str | None, tokens: tuple[TokenLogprobs, ...] | None, offset: int
    ) -> Json:
        logprobs = None
        if tokens is not None:
            offsets = [offset]
            for token in tokens[:-1]:
                offsets.append(offsets[-1] + len(token.text))
            logprobs = {
                "tokens": [token.text for token in tokens],
                "token_logprobs": [token.logprob for token in tokens],
                "top_logprobs": [_top(token) for token in tokens],
                "text_offset": offsets[: len(tokens)],
            }
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def _top(token: TokenLogprobs) -> dict[str, float]:
    """By text; the likeliest token of the same text (half of a character, mostly) has it, others go by their number."""
    found: dict[str, float] = {}
    for one in token.top:
        found[one.text if one.text not in found else f"token_id:{one.token}"] = one.logprob
    return found


def _checked(served: Served, ids: list[int]) -> Prompt:
    if max(ids) >= served.model.config.vocab_size:
        vocabulary = served.model.config.vocab_size
        raise UsageError(f"prompt holds the token id {max(ids)}; the vocabulary has {vocabulary:,} tokens.")
    return Prompt(ids)


ROUTES = [
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{model:path}", model, methods=["GET"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/responses", responses, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
]
