"""OpenAI's chat completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.engine.generation import Alternative, Completion, Piece, TokenLogprobs
from empu.server.http.app_state import context_of, note, note_usage
from empu.server.http.body import read_body
from empu.server.openai.common import data, event_stream, usage
from empu.server.openai.protocol import ChatRequest
from empu.serving.completions import LABEL_TOKEN, AnyAnswers
from empu.serving.registry import Served
from empu.serving.service import ask, confidence
from empu.serving.tools.dialects import Form
from empu.serving.tools.parser import CallBegins, Part, Text, ToolReader, read_whole

Json = dict[str, Any]


async def chat_completions(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    asked = await read_body(request, ChatRequest)
    note(request, model=asked.model, stream=bool(asked.stream))
    n, tools = asked.n or 1, asked.offered
    params = asked.sampling(max_tokens=asked.max_completion_tokens or asked.max_tokens, logprobs=asked.wanted_logprobs)
    messages = [message.plain() for message in asked.messages]
    served = await context_of(request).catalogue.get(asked.model)
    answers, form = await ask(request, served, messages, params, n=n, schema=asked.schema_, tools=tools)
    shape = _Chat(asked.model, served)
    if asked.stream:
        include_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return event_stream(_events(request, shape, answers, n, form, include_usage))
    completions = await answers.all()
    note_usage(request, completions, n)
    choices = [shape.choice(i, one, answers, form) for i, one in enumerate(completions)]
    return JSONResponse(shape.wrap("chat.completion", choices) | {"usage": usage(completions)})


async def _events(
    request: Request, shape: _Chat, answers: AnyAnswers, n: int, form: Form | None, include_usage: bool
) -> AsyncIterator[str]:
    completions: list[Completion] = []
    extra: Json = {"usage": None} if include_usage else {}
    readers = [ToolReader(form) for _ in range(n)]
    for i in range(n):
        yield data(shape.chunk(i, {"role": "assistant", "content": ""}) | extra)
    async for index, update in answers:
        reader = readers[index]
        if isinstance(update, Piece):
            logprobs = shape.logprobs(update.logprobs) if update.logprobs else None
            parts = list(reader.feed(update.text))
            if logprobs is not None and not parts:
                parts = [Text("")]
            for part in parts:
                yield data(shape.chunk(index, _delta(part), logprobs=logprobs) | extra)
        else:
            completions.append(update)
            for part in reader.finish():
                yield data(shape.chunk(index, _delta(part)) | extra)
            reason = _reason(update, reader.calls > 0)
            yield data(shape.chunk(index, {}, finish=reason, beside=confidence(answers)) | extra)
    note_usage(request, completions, n)
    if include_usage:
        yield data(shape.wrap("chat.completion.chunk", []) | {"usage": usage(completions)})
    yield "data: [DONE]\n\n"


def _delta(part: Part) -> Json:
    if isinstance(part, Text):
        return {"content": part.text}
    if isinstance(part, CallBegins):
        return {"tool_calls": [{"index": part.index, **_called(part.id, part.name, "")}]}
    return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}


def _called(id_: str, name: str, arguments: str) -> Json:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _reason(one: Completion, called: bool) -> str:
    return "tool_calls" if called and one.finish_reason == "stop" and one.stop_string is None else one.finish_reason


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

    def choice(self, index: int, one: Completion, answers: AnyAnswers, form: Form | None) -> Json:
        read = read_whole(form, one.text)
        message: Json = {"role": "assistant", "content": read.text, "refusal": None}
        if read.calls:
            message["content"] = read.text or None
            message["tool_calls"] = [_called(call.id, call.name, call.arguments) for call in read.calls]
        return {
            "index": index,
            "message": message,
            "logprobs": self.logprobs(one.logprobs) if one.logprobs is not None else None,
            "finish_reason": _reason(one, bool(read.calls)),
        } | confidence(answers)

    def chunk(
        self,
        index: int,
        delta: Json,
        *,
        logprobs: Json | None = None,
        finish: str | None = None,
        beside: Json | None = None,
    ) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self.wrap("chat.completion.chunk", [choice | (beside or {})])

    def logprobs(self, tokens: tuple[TokenLogprobs, ...]) -> Json:
        described = [{**self._one(token), "top_logprobs": [self._one(one) for one in token.top]} for token in tokens]
        return {"content": described, "refusal": None}

    def _one(self, token: TokenLogprobs | Alternative) -> Json:
        if token.token == LABEL_TOKEN:
            exact = token.text.encode()
        else:
            exact = self._served.model.text.tokenizer.token_bytes(token.token)
        return {"token": token.text, "logprob": token.logprob, "bytes": list(exact)}
