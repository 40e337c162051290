"""Handler of chat completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.engine.outputs import Completion, TextDelta, TokenLogprobs, TopLogprob
from empu.server.http.app_state import add_log_fields, app_state_of, record_usage, report_ignored
from empu.server.http.body import read_body
from empu.server.http.disconnect import disconnect_of
from empu.server.http.sse import format_event
from empu.server.openai.protocol.chat import ChatRequest
from empu.server.openai.streaming import DONE, completion_stream
from empu.server.openai.usage import usage
from empu.serving.completions import LABEL_TOKEN, AnyStream
from empu.serving.registry import ServedModel
from empu.serving.service import ChatInput, confidence_fields, start_chat
from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.parser import ContentDelta, OutputDelta, ToolCallParser, ToolCallStart, parse_answer

Json = dict[str, Any]


async def chat_completions(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    body = await read_body(request, ChatRequest)
    add_log_fields(request, model=body.model, stream=bool(body.stream))
    n, tool_set = body.n or 1, body.tool_set
    max_tokens = body.max_completion_tokens or body.max_tokens
    params = body.sampling_params(max_tokens=max_tokens, logprobs=body.num_logprobs)
    messages = [message.to_template() for message in body.messages]
    served = await app_state_of(request).registry.get(body.model)
    chat = ChatInput(messages, params, n=n, schema=body.answer_schema, tools=tool_set)
    started = await start_chat(disconnect_of(request), served, chat)
    report_ignored(request, started.ignored)
    stream, dialect = started.stream, started.dialect
    writer = _ChatWriter(body.model, served, uses_functions=body.uses_functions)
    if body.stream:
        return completion_stream(_events(request, writer, stream, n, dialect, body.include_usage))
    completions = await stream.all()
    record_usage(request, completions, n)
    choices = [writer.choice(i, completion, stream, dialect) for i, completion in enumerate(completions)]
    return JSONResponse(writer.response("chat.completion", choices) | {"usage": usage(completions)})


async def _events(
    request: Request,
    writer: _ChatWriter,
    stream: AnyStream,
    n: int,
    dialect: ToolDialect | None,
    include_usage: bool,
) -> AsyncIterator[str]:
    completions: list[Completion] = []
    no_usage: Json = {"usage": None} if include_usage else {}
    parsers = [ToolCallParser(dialect) for _ in range(n)]
    for i in range(n):
        yield format_event(writer.chunk(i, {"role": "assistant", "content": ""}) | no_usage)
    async for index, update in stream:
        parser = parsers[index]
        if isinstance(update, TextDelta):
            logprobs = writer.logprobs(update.logprobs) if update.logprobs else None
            deltas = list(parser.feed(update.text))
            if logprobs is not None and not deltas:
                deltas = [ContentDelta("")]
            for delta in deltas:
                yield format_event(writer.chunk(index, writer.delta(delta), logprobs=logprobs) | no_usage)
        else:
            completions.append(update)
            for delta in parser.finish():
                yield format_event(writer.chunk(index, writer.delta(delta)) | no_usage)
            reason = writer.finish_reason(update, has_calls=parser.num_calls > 0)
            chunk = writer.chunk(index, {}, finish_reason=reason, extra=confidence_fields(stream))
            yield format_event(chunk | no_usage)
    record_usage(request, completions, n)
    if include_usage:
        yield format_event(writer.response("chat.completion.chunk", []) | {"usage": usage(completions)})
    yield DONE


def _call_object(call_id: str, name: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


class _ChatWriter:
    """Writes completions in the form of chat completions."""

    def __init__(self, model_name: str, served: ServedModel, *, uses_functions: bool) -> None:
        """``uses_functions``: write calls in the former form, ``function_call``."""
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._model_name = model_name
        self._served = served
        self._uses_functions = uses_functions

    def response(self, object_type: str, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": object_type,
            "created": self._created,
            "model": self._model_name,
            "system_fingerprint": self._served.model.backend.name,
            "choices": choices,
        }

    def choice(self, index: int, completion: Completion, stream: AnyStream, dialect: ToolDialect | None) -> Json:
        answer = parse_answer(dialect, completion.text)
        message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.calls:
            message["content"] = answer.text or None
            if self._uses_functions:
                call = answer.calls[0]
                message["function_call"] = {"name": call.name, "arguments": call.arguments}
            else:
                message["tool_calls"] = [_call_object(call.id, call.name, call.arguments) for call in answer.calls]
        return {
            "index": index,
            "message": message,
            "logprobs": self.logprobs(completion.logprobs) if completion.logprobs is not None else None,
            "finish_reason": self.finish_reason(completion, has_calls=bool(answer.calls)),
        } | confidence_fields(stream)

    def chunk(
        self,
        index: int,
        delta: Json,
        *,
        logprobs: Json | None = None,
        finish_reason: str | None = None,
        extra: Json | None = None,
    ) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self.response("chat.completion.chunk", [choice | (extra or {})])

    def delta(self, delta: OutputDelta) -> Json:
        if isinstance(delta, ContentDelta):
            return {"content": delta.text}
        if isinstance(delta, ToolCallStart):
            if self._uses_functions:
                return {"function_call": {"name": delta.name, "arguments": ""}}
            return {"tool_calls": [{"index": delta.index, **_call_object(delta.id, delta.name, "")}]}
        if self._uses_functions:
            return {"function_call": {"arguments": delta.text}}
        return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.text}}]}

    def finish_reason(self, completion: Completion, *, has_calls: bool) -> str:
        if has_calls and completion.finish_reason == "stop" and completion.stop_string is None:
            return "function_call" if self._uses_functions else "tool_calls"
        return completion.finish_reason

    def logprobs(self, tokens: tuple[TokenLogprobs, ...]) -> Json:
        content = [
            {**self._token_object(token), "top_logprobs": [self._token_object(top) for top in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _token_object(self, token: TokenLogprobs | TopLogprob) -> Json:
        if token.token == LABEL_TOKEN:
            token_bytes = token.text.encode()
        else:
            token_bytes = self._served.model.text.tokenizer.token_bytes(token.token)
        return {"token": token.text, "logprob": token.logprob, "bytes": list(token_bytes)}
