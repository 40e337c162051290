"""Anthropic's interface: messages, streamed as events in their order, and the counting of tokens."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from empu.engine.generation import Completion, Piece
from empu.engine.sampling import SamplingParams
from empu.server.answers import Answers, AnyAnswers, alike
from empu.server.context import context_of, note, note_usage
from empu.server.openai import confidence, judge, with_instruction
from empu.server.openai_types import MAX_MESSAGES, MAX_STOP_LENGTH, Strict
from empu.server.problems import ProblemError, problem_of
from empu.server.reading import read_body
from empu.text.base import Message

Json = dict[str, Any]

IGNORED = (
    "betas", "cache_control", "diagnostics", "inference_geo", "metadata", "service_tier", "speed", "user_profile_id",
    "workspace_id",
)  # fmt: skip
"""Properties that concern Anthropic's accounts, caches and data centres."""
REFUSED = ("tools", "tool_choice", "container", "context_management", "mcp_servers", "output_config", "output_format")
MAX_STOPS = 16

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "overloaded_error",
}


class Block(Strict):
    """A block of text; what it says of caching is ignored."""

    type: Literal["text"]
    text: str
    cache_control: Any = None
    citations: None = None


class Turn(Strict):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Field(min_length=1)]


class Thinking(Strict):
    """Only that there is none."""

    type: Literal["disabled"]


class CountRequest(Strict):
    """``POST /v1/messages/count_tokens``."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: str | list[Block] | None = None
    thinking: Thinking | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name in REFUSED:
            if value.get(name) not in (None, [], {}):
                raise ProblemError(400, f"{name} is not supported here; leave it out.", param=name, code="unsupported")
        return {key: item for key, item in value.items() if key not in IGNORED and key not in REFUSED}

    @property
    def dialogue(self) -> list[Message]:
        """As chat templates take it. Raises :class:`ProblemError` when there is nothing to answer."""
        if self.messages[-1].role != "user":
            message = "messages ends with the assistant; an answer cannot be begun for the model, so end with the user."
            raise ProblemError(400, message, param="messages", code="unsupported")
        system: list[Message] = [{"role": "system", "content": _plain(self.system)}] if self.system else []
        return [*system, *({"role": turn.role, "content": _plain(turn.content)} for turn in self.messages)]


class MessagesRequest(CountRequest):
    """``POST /v1/messages``."""

    max_tokens: int = Field(ge=1, le=1 << 30)
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]], Field(max_length=MAX_STOPS)]
        | None
    ) = None
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=1 << 30)

    @property
    def sampling(self) -> SamplingParams:
        """The parameters that the request means."""
        return SamplingParams(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
        )


def error_response(problem: ProblemError) -> Response:
    """Anthropic's envelope; its status for a full queue is 529."""
    status = 529 if problem.status == 429 else problem.status
    headers = {"Retry-After": str(problem.retry_after_s)} if problem.retry_after_s else None
    return JSONResponse(_error(problem), status, headers)


def _error(problem: ProblemError) -> Json:
    kind = _KINDS.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    message = str(problem).encode("utf-8", "replace").decode()
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{secrets.token_hex(12)}"}


async def messages(request: Request) -> Response:
    """``POST /v1/messages``."""
    asked = await read_body(request, MessagesRequest)
    note(request, model=asked.model, stream=bool(asked.stream))
    params, dialogue = asked.sampling, asked.dialogue
    served = await context_of(request).catalogue.get(asked.model)
    answers: AnyAnswers
    if served.label_task is not None:
        answers = await judge(served, dialogue, params, 1, guided=False)
    else:
        answers = Answers(request, served, alike(await served.encode(with_instruction(served, dialogue)), params, 1))
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
        return StreamingResponse(_events(request, head, answers), media_type="text/event-stream")
    (completion,) = await answers.all()
    note_usage(request, [completion])
    content = [{"type": "text", "text": completion.text}]
    said = {**head, "content": content, **_ending(completion), "usage": _usage(completion)}
    return JSONResponse(said | confidence(answers))


async def _events(request: Request, head: Json, answers: AnyAnswers) -> AsyncIterator[str]:
    yield _event("message_start", message=head)
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield _event("ping")
    try:
        async for _, update in answers:
            if isinstance(update, Piece):
                if update.text:
                    yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": update.text})
            else:
                note_usage(request, [update])
                yield _event("content_block_stop", index=0)
                extra = confidence(answers)
                yield _event("message_delta", delta=_ending(update), usage=_usage(update), **extra)
                yield _event("message_stop")
    except Exception as error:
        yield f"event: error\ndata: {json.dumps(_error(problem_of(error)))}\n\n"


async def count_tokens(request: Request) -> Response:
    """``POST /v1/messages/count_tokens``."""
    asked = await read_body(request, CountRequest)
    note(request, model=asked.model)
    dialogue = asked.dialogue
    served = await context_of(request).catalogue.get(asked.model)
    prompt = await served.encode(with_instruction(served, dialogue))
    return JSONResponse({"input_tokens": len(prompt.ids)})


def _plain(content: str | list[Block]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)


def _ending(completion: Completion) -> Json:
    if completion.stop_string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": completion.stop_string}
    reason = "max_tokens" if completion.finish_reason == "length" else "end_turn"
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
