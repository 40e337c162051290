"""OpenAI's interface: models, chat completions, text completions."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from empu.engine.generation import Alternative, Completion, Piece, TokenLogprobs
from empu.engine.prompting import Prompt
from empu.engine.sampling import SamplingParams
from empu.errors import UsageError
from empu.server.answers import LABEL_TOKEN, Answers, AnyAnswers, Asked, LabelAnswers, alike
from empu.server.catalogue import ALTERNATIVES, Served
from empu.server.context import context_of, note, note_usage
from empu.server.openai_types import ChatRequest, CompletionRequest
from empu.server.problems import ProblemError, problem_of
from empu.server.reading import read_body
from empu.text.base import Message

Json = dict[str, Any]


def error_response(problem: ProblemError) -> Response:
    """OpenAI's envelope."""
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        problem.status, "invalid_request_error" if problem.status < 500 else "server_error"
    )
    headers = {"Retry-After": str(problem.retry_after_s)} if problem.retry_after_s else None
    return JSONResponse({"error": _error(problem, kind)}, problem.status, headers)


def _error(problem: ProblemError, kind: str) -> Json:
    return {"message": _sayable(str(problem)), "type": kind, "param": problem.param, "code": problem.code}


async def models(request: Request) -> Response:
    """``GET /v1/models``."""
    names = context_of(request).catalogue.names()
    return JSONResponse({"object": "list", "data": [_model(name, created) for name, created in names.items()]})


async def model(request: Request) -> Response:
    """``GET /v1/models/{model}``."""
    names, name = context_of(request).catalogue.names(), request.path_params["model"]
    if name not in names:
        raise ProblemError(404, f"There is no model called {name!r} here.", param="model", code="model_not_found")
    return JSONResponse(_model(name, names[name]))


def _model(name: str, created: int) -> Json:
    return {"id": name, "object": "model", "created": created, "owned_by": "empu"}


async def chat_completions(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    asked = await read_body(request, ChatRequest)
    note(request, model=asked.model, stream=bool(asked.stream))
    logprobs = asked.wanted_logprobs
    params = asked.sampling(max_tokens=asked.max_completion_tokens or asked.max_tokens, logprobs=logprobs)
    served = await context_of(request).catalogue.get(asked.model)
    messages = [message.plain() for message in asked.messages]
    answers: AnyAnswers
    if served.label_task is not None:
        answers = await judge(served, messages, params, asked.n or 1, guided=asked.schema_ is not None)
    else:
        prompt = await served.encode(with_instruction(served, messages))
        guide = await schema_guide(served, asked.schema_, "response_format")
        answers = Answers(request, served, alike(prompt, params, asked.n or 1, guide))
    shape = _Chat(asked.model, served)
    if asked.stream:
        include_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return event_stream(_chat_events(request, shape, answers, asked.n or 1, include_usage))
    completions = await answers.all()
    note_usage(request, completions)
    return JSONResponse(
        shape.wrap("chat.completion", [shape.choice(i, one, answers) for i, one in enumerate(completions)])
        | {"usage": usage(completions)}
    )


async def _chat_events(
    request: Request, shape: _Chat, answers: AnyAnswers, n: int, include_usage: bool
) -> AsyncIterator[str]:
    completions: list[Completion] = []
    extra: Json = {"usage": None} if include_usage else {}
    for i in range(n):
        yield _data(shape.chunk(i, {"role": "assistant", "content": ""}) | extra)
    async for index, update in answers:
        if isinstance(update, Piece):
            if update.text or update.logprobs:
                logprobs = shape.logprobs(update.logprobs) if update.logprobs else None
                yield _data(shape.chunk(index, {"content": update.text}, logprobs=logprobs) | extra)
        else:
            completions.append(update)
            yield _data(shape.chunk(index, {}, finish=update.finish_reason) | confidence(answers) | extra)
    note_usage(request, completions)
    if include_usage:
        yield _data(shape.wrap("chat.completion.chunk", []) | {"usage": usage(completions)})
    yield "data: [DONE]\n\n"


class _Chat:
    """Puts answers into the shape of chat completions."""

    def __init__(self, name: str, served: Served) -> None:
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._name = name
        self._served = served

    def wrap(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._name,
            "system_fingerprint": self._served.model.backend.name,
            "choices": choices,
        }

    def choice(self, index: int, one: Completion, answers: AnyAnswers) -> Json:
        return {
            "index": index,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": self.logprobs(one.logprobs) if one.logprobs is not None else None,
            "finish_reason": one.finish_reason,
        } | confidence(answers)

    def chunk(self, index: int, delta: Json, *, logprobs: Json | None = None, finish: str | None = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self.wrap("chat.completion.chunk", [choice])

    def logprobs(self, tokens: tuple[TokenLogprobs, ...]) -> Json:
        described = [{**self._one(token), "top_logprobs": [self._one(one) for one in token.top]} for token in tokens]
        return {"content": described, "refusal": None}

    def _one(self, token: TokenLogprobs | Alternative) -> Json:
        if token.token == LABEL_TOKEN:
            exact = token.text.encode()
        else:
            exact = self._served.model.text.tokenizer.token_bytes(token.token)
        return {"token": token.text, "logprob": token.logprob, "bytes": list(exact)}


async def completions(request: Request) -> Response:
    """``POST /v1/completions``."""
    asked = await read_body(request, CompletionRequest)
    note(request, model=asked.model, stream=bool(asked.stream))
    params = asked.sampling(max_tokens=asked.max_tokens or 16, logprobs=asked.logprobs)
    served = await context_of(request).catalogue.get(asked.model)
    if served.label_task is not None:
        message = f"{asked.model} answers with labels; ask it through /v1/chat/completions."
        raise ProblemError(400, message, param="model", code="unsupported")
    several: list[Asked] = []
    heads: list[str] = []
    n = asked.n or 1
    for given in asked.prompts:
        prompt = await served.encode(given) if isinstance(given, str) else _checked(served, given)
        several += alike(prompt, params, n)
        head = given if isinstance(given, str) else served.model.text.tokenizer.decode(given)
        heads += [head if asked.echo else ""] * n
    answers = Answers(request, served, several)
    shape = _Text(asked.model, served)
    if asked.stream:
        include_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return event_stream(_text_events(request, shape, answers, heads, n, include_usage))
    found = await answers.all()
    note_usage(request, found)
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
            yield _data(shape.wrap([shape.choice(index, head, None, None, 0)]) | extra)
    async for index, update in answers:
        if isinstance(update, Piece):
            if update.text or update.logprobs:
                choice = shape.choice(index, update.text, None, update.logprobs or None, offsets[index])
                offsets[index] += sum(len(token.text) for token in update.logprobs)
                yield _data(shape.wrap([choice]) | extra)
        else:
            found[index] = update
            yield _data(shape.wrap([shape.choice(index, "", update.finish_reason, None, 0)]) | extra)
    in_order = [found[index] for index in sorted(found)]
    note_usage(request, in_order)
    if include_usage:
        yield _data(shape.wrap([]) | {"usage": usage(in_order, n)})
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
                "top_logprobs": [{one.text: one.logprob for one in token.top} for token in tokens],
                "text_offset": offsets[: len(tokens)],
            }
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


async def judge(
    served: Served, messages: list[Message], params: SamplingParams, n: int, *, guided: bool
) -> LabelAnswers:
    """The label of the last user's message. Raises :class:`ProblemError` for what labels cannot keep."""
    if n != 1:
        raise ProblemError(400, f"{served.name} names one label; n must be 1.", param="n", code="unsupported")
    if guided:
        message = f"{served.name} answers with one of its labels and keeps no other form."
        raise ProblemError(400, message, param="response_format", code="unsupported")
    texts = [str(message["content"]) for message in messages if message["role"] == "user"]
    if not texts:
        raise ProblemError(400, "There is no message of a user to judge.", param="messages", code="invalid_value")
    verdicts, asked, answered = await served.judge(texts[-1], min(ALTERNATIVES, max(1, params.logprobs or 0)))
    return LabelAnswers(verdicts, asked, answered, params.logprobs)


def with_instruction(served: Served, messages: list[Message]) -> list[Message]:
    """A specialist's dialogue begins as it was tuned, unless the request brings a system message of its own."""
    task = served.model.task
    if task is None or any(message["role"] == "system" for message in messages):
        return messages
    return [*task.messages("")[:-1], *messages]


async def schema_guide(served: Served, schema: Json | None, param: str) -> Callable[[], Any] | None:
    """What makes a guide for each answer; ``None`` without a schema."""
    import asyncio

    if schema is None:
        return None
    guides = await asyncio.to_thread(lambda: served.guides)
    return lambda: guides.schema(schema, param)


def confidence(answers: AnyAnswers) -> Json:
    """How sure a specialist for labels is: an addition of Empu to OpenAI's answers."""
    return {"confidence": answers.confidence} if answers.confidence is not None else {}


def usage(completions: list[Completion], n: int | None = None) -> Json:
    """True counts; a prompt that ``n`` answers share is counted once."""
    prompts = completions[:: n or len(completions) or 1]
    read, written = sum(one.prompt_tokens for one in prompts), sum(one.completion_tokens for one in completions)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts)},
    }


def event_stream(events: AsyncIterator[str]) -> Response:
    """Server-sent events; an error on the way becomes the last one."""
    return StreamingResponse(_to_the_end(events), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _to_the_end(events: AsyncIterator[str]) -> AsyncIterator[str]:
    try:
        async for event in events:
            yield event
    except Exception as error:
        problem = problem_of(error)
        kind = "invalid_request_error" if problem.status < 500 else "server_error"
        yield _data({"error": _error(problem, kind)})


def _checked(served: Served, ids: list[int]) -> Prompt:
    if max(ids) >= served.model.config.vocab_size:
        vocabulary = served.model.config.vocab_size
        raise UsageError(f"prompt holds the token id {max(ids)}; the vocabulary has {vocabulary:,} tokens.")
    return Prompt(ids)


def _data(value: Json) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _sayable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


ROUTES = [
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{model:path}", model, methods=["GET"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
]
