"""Handlers of messages: an answer as a list of content blocks, whole or as a stream of events."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.engine.outputs import Completion
from empu.server.anthropic.errors import error_body
from empu.server.anthropic.protocol import CountTokensRequest, MessagesRequest
from empu.server.http.app_state import add_log_fields, app_state_of, record_usage, report_ignored
from empu.server.http.body import read_body
from empu.server.http.disconnect import disconnect_of
from empu.server.http.sse import event_stream, format_event
from empu.serving.completions import AnyStream
from empu.serving.errors import RequestError
from empu.serving.output_items import (
    ItemBuilder,
    ItemDelta,
    ItemEvent,
    ItemStart,
    OutputItem,
    parse_items,
    stream_items,
)
from empu.serving.service import ChatInput, confidence_fields, encode_chat_prompt, start_chat
from empu.serving.tools.dialect import ToolDialect

Json = dict[str, Any]


async def messages(request: Request) -> Response:
    """``POST /v1/messages``."""
    body = await read_body(request, MessagesRequest)
    add_log_fields(request, model=body.model, stream=bool(body.stream))
    chat = ChatInput(
        body.template_messages,
        body.sampling_params,
        schema=body.answer_schema,
        tools=body.tool_set,
        schema_param="output_config",
        stop_param="stop_sequences",
    )
    served = await app_state_of(request).registry.get(body.model)
    started = await start_chat(disconnect_of(request), served, chat)
    report_ignored(request, started.ignored)
    stream, dialect = started.stream, started.dialect
    message: Json = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": body.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    if body.stream:
        message["usage"] = {"input_tokens": stream.prompt_tokens, "output_tokens": 0}
        events = _events(request, message, stream, dialect)
        request_id = request.scope["empu.request_id"]
        return event_stream(events, lambda error: _error_event(error, request_id), _event("ping"))
    (completion,) = await stream.all()
    record_usage(request, [completion])
    builder = parse_items(dialect, completion)
    message |= {
        "content": [_content_block(item) for item in builder.items],
        **_stop_fields(completion, has_calls=builder.has_calls),
        "usage": _usage(completion),
    }
    return JSONResponse(message | confidence_fields(stream))


async def count_tokens(request: Request) -> Response:
    """``POST /v1/messages/count_tokens``."""
    body = await read_body(request, CountTokensRequest)
    add_log_fields(request, model=body.model)
    template_messages, tool_set = body.template_messages, body.tool_set
    served = await app_state_of(request).registry.get(body.model)
    prompt, _ = await encode_chat_prompt(served, template_messages, tool_set)
    return JSONResponse({"input_tokens": len(prompt.ids)})


async def _events(
    request: Request, message: Json, stream: AnyStream, dialect: ToolDialect | None
) -> AsyncIterator[str]:
    yield _event("message_start", message=message)
    yield _event("ping")
    builder = ItemBuilder(dialect)
    async for event in stream_items(stream, builder):
        if isinstance(event, Completion):
            record_usage(request, [event])
            delta = _stop_fields(event, has_calls=builder.has_calls)
            yield _event("message_delta", delta=delta, usage=_usage(event), **confidence_fields(stream))
            yield _event("message_stop")
        else:
            yield _block_event(event)


def _block_event(event: ItemEvent) -> str:
    item = event.item
    if isinstance(event, ItemStart):
        block = _content_block(item)
        return _event("content_block_start", index=item.index, content_block=block)
    if isinstance(event, ItemDelta):
        if item.is_call:
            delta = {"type": "input_json_delta", "partial_json": event.text}
        else:
            delta = {"type": "text_delta", "text": event.text}
        return _event("content_block_delta", index=item.index, delta=delta)
    return _event("content_block_stop", index=item.index)


def _content_block(item: OutputItem) -> Json:
    if item.call_id is None:
        return {"type": "text", "text": item.text}
    call_id = item.call_id.replace("call_", "toolu_")
    return {"type": "tool_use", "id": call_id, "name": item.name, "input": _parse_input(item.text)}


def _parse_input(arguments: str) -> Any:
    """Return the arguments of a call; an empty object if ``max_tokens`` cut them, as ``stop_reason`` says."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {}


def _stop_fields(completion: Completion, *, has_calls: bool) -> Json:
    if completion.stop_string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": completion.stop_string}
    reason = "max_tokens" if completion.finish_reason == "length" else "tool_use" if has_calls else "end_turn"
    return {"stop_reason": reason, "stop_sequence": None}


def _usage(completion: Completion) -> Json:
    """Return token counts. Anthropic counts cached tokens apart from ``input_tokens``."""
    return {
        "input_tokens": completion.prompt_tokens - completion.cached_tokens,
        "cache_read_input_tokens": completion.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": completion.completion_tokens,
    }


def _error_event(error: RequestError, request_id: str) -> str:
    body = error_body(error, request_id)
    return _event(body.pop("type"), **body)


def _event(kind: str, **fields: Any) -> str:
    return format_event({"type": kind, **fields}, kind)
