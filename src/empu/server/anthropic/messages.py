"""Anthropic's interface: messages, streamed as events in their order, and the counting of tokens."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from empu.engine.generation import Completion, Piece
from empu.server.anthropic.protocol import CountRequest, MessagesRequest
from empu.server.http.app_state import context_of, note, note_usage
from empu.server.http.body import read_body
from empu.server.http.sse import stream
from empu.serving.completions import AnyAnswers
from empu.serving.errors import ProblemError
from empu.serving.service import ask, confidence, encode
from empu.serving.tools.dialects import Form
from empu.serving.tools.parser import Arguments, CallBegins, Part, ToolReader, read_whole

Json = dict[str, Any]

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "overloaded_error",
}


def error_response(problem: ProblemError, request_id: str) -> Response:
    """Anthropic's envelope, with the id of headers and log; its status for a full queue is 529."""
    status = 529 if problem.status == 429 else problem.status
    headers = {"Retry-After": str(problem.retry_after_s)} if problem.retry_after_s else None
    return JSONResponse(_error(problem, request_id), status, headers)


def _error(problem: ProblemError, request_id: str) -> Json:
    kind = _KINDS.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    message = str(problem).encode("utf-8", "replace").decode()
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


async def messages(request: Request) -> Response:
    """``POST /v1/messages``."""
    asked = await read_body(request, MessagesRequest)
    note(request, model=asked.model, stream=bool(asked.stream))
    params, dialogue, tools = asked.sampling, asked.dialogue, asked.offered
    served = await context_of(request).catalogue.get(asked.model)
    answers, form = await ask(
        request,
        served,
        dialogue,
        params,
        schema=asked.schema_,
        param="output_config",
        stop="stop_sequences",
        tools=tools,
    )
    head: Json = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    if asked.stream:
        head["usage"] = {"input_tokens": answers.prompt_tokens, "output_tokens": 0}
        events = _events(request, head, answers, form)
        return stream(events, lambda problem: _failed(problem, request.scope["empu.request"]))
    (completion,) = await answers.all()
    note_usage(request, [completion])
    read = read_whole(form, completion.text)
    content: list[Json] = [{"type": "text", "text": read.text}] if read.text or not read.calls else []
    content += [
        {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": _value(call.arguments)}
        for call in read.calls
    ]
    ending = _ending(completion, bool(read.calls))
    said = {**head, "content": content, **ending, "usage": _usage(completion)}
    return JSONResponse(said | confidence(answers))


async def _events(request: Request, head: Json, answers: AnyAnswers, form: Form | None) -> AsyncIterator[str]:
    yield _event("message_start", message=head)
    yield _event("ping")
    blocks, reader = _Blocks(), ToolReader(form)
    async for _, update in answers:
        for part in reader.feed(update.text) if isinstance(update, Piece) else reader.finish():
            for event in blocks.events(part):
                yield event
        if isinstance(update, Completion):
            note_usage(request, [update])
            for event in blocks.end():
                yield event
            ending = _ending(update, reader.calls > 0)
            yield _event("message_delta", delta=ending, usage=_usage(update), **confidence(answers))
            yield _event("message_stop")


def _failed(problem: ProblemError, request_id: str) -> str:
    said = _error(problem, request_id)
    return _event(said.pop("type"), **said)


class _Blocks:
    """Numbers the blocks of an answer: its text, then one for each call."""

    def __init__(self) -> None:
        self._next = 0
        self._open: str | None = None

    def events(self, part: Part) -> Iterator[str]:
        """What ``part`` adds."""
        if isinstance(part, CallBegins):
            yield from self._begin("tool_use", id=_id(part.id), name=part.name, input={})
        elif isinstance(part, Arguments):
            delta = {"type": "input_json_delta", "partial_json": part.text}
            yield _event("content_block_delta", index=self._next - 1, delta=delta)
        elif part.text:
            if self._open != "text":
                yield from self._begin("text", text="")
            delta = {"type": "text_delta", "text": part.text}
            yield _event("content_block_delta", index=self._next - 1, delta=delta)

    def end(self) -> Iterator[str]:
        """Closes the last block; an answer has one at least."""
        if self._open is None:
            yield from self._begin("text", text="")
        yield _event("content_block_stop", index=self._next - 1)

    def _begin(self, kind: str, **block: Any) -> Iterator[str]:
        if self._open is not None:
            yield _event("content_block_stop", index=self._next - 1)
        yield _event("content_block_start", index=self._next, content_block={"type": kind, **block})
        self._next += 1
        self._open = kind


async def count_tokens(request: Request) -> Response:
    """``POST /v1/messages/count_tokens``."""
    asked = await read_body(request, CountRequest)
    note(request, model=asked.model)
    dialogue, tools = asked.dialogue, asked.offered
    served = await context_of(request).catalogue.get(asked.model)
    prompt, _ = await encode(served, dialogue, tools)
    return JSONResponse({"input_tokens": len(prompt.ids)})


def _id(call_id: str) -> str:
    return call_id.replace("call_", "toolu_")


def _value(arguments: str) -> Any:
    """What an answer that ``max_tokens`` cut could not finish is an empty input, as ``stop_reason`` says."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {}


def _ending(completion: Completion, called: bool) -> Json:
    if completion.stop_string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": completion.stop_string}
    reason = "max_tokens" if completion.finish_reason == "length" else "tool_use" if called else "end_turn"
    return {"stop_reason": reason, "stop_sequence": None}


def _usage(completion: Completion) -> Json:
    """As Anthropic counts: tokens read from the cache stand by themselves."""
    return {
        "input_tokens": completion.prompt_tokens - completion.cached_tokens,
        "cache_read_input_tokens": completion.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": completion.completion_tokens,
    }


def _event(kind: str, **value: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **value}, ensure_ascii=False, separators=(',', ':'))}\n\n"


ROUTES = [
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
]
