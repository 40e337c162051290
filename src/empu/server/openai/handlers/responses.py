"""Handler of responses: an answer as a list of output items, whole or as a stream of events."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.engine.outputs import Completion
from empu.server.http.app_state import add_log_fields, app_state_of, record_usage, report_ignored
from empu.server.http.body import read_body
from empu.server.http.disconnect import disconnect_of
from empu.server.http.errors import error_message
from empu.server.http.sse import event_stream, format_event
from empu.server.openai.protocol.responses import ResponsesRequest, append_item, output_to_input
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
from empu.serving.sampling_defaults import apply_sampling_defaults
from empu.serving.service import ChatInput, StartedChat, confidence_fields, start_chat
from empu.text.base import Message

Json = dict[str, Any]


async def responses(request: Request) -> Response:
    """``POST /v1/responses``."""
    body = await read_body(request, ResponsesRequest)
    add_log_fields(request, model=body.model, stream=bool(body.stream))
    tool_set, dialogue = body.tool_set, _dialogue(request, body)
    served = await app_state_of(request).registry.get(body.model)
    chat = ChatInput(
        [*body.system_messages, *dialogue],
        body.sampling_params,
        schema=body.answer_schema,
        schema_param="text",
        tools=tool_set,
    )
    started = await start_chat(disconnect_of(request), served, chat)
    report_ignored(request, started.ignored)
    stream, dialect = started.stream, started.dialect
    writer = _ResponseWriter(body)
    if body.stream:
        numbers = itertools.count()
        events = (_format(event, numbers) async for event in _events(request, writer, started, body, dialogue))
        return event_stream(events, lambda error: _format(_error_event(error), numbers))
    (completion,) = await stream.all()
    record_usage(request, [completion])
    items = parse_items(dialect, completion).items
    response = writer.finished(items, completion) | confidence_fields(stream)
    _store(request, body, response, dialogue)
    return JSONResponse(response)


async def retrieve_response(request: Request) -> Response:
    """``GET /v1/responses/{id}``."""
    stored = app_state_of(request).responses.get(_owner(request), request.path_params["id"])
    if stored is None:
        raise _not_found(request)
    return JSONResponse(stored.document)


async def delete_response(request: Request) -> Response:
    """``DELETE /v1/responses/{id}``."""
    response_id = request.path_params["id"]
    if not app_state_of(request).responses.delete(_owner(request), response_id):
        raise _not_found(request)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


def _owner(request: Request) -> str:
    return str(request.scope["empu.key"])


def _not_found(request: Request) -> RequestError:
    message = f"There is no stored response {request.path_params['id']!r}."
    return RequestError(404, message, param="id", code="response_not_found")


def _dialogue(request: Request, body: ResponsesRequest) -> list[Message]:
    """Return the previous dialogue and the input, without instructions. Raises :class:`RequestError`."""
    store, owner = app_state_of(request).responses, _owner(request)
    previous: Sequence[Message] = ()
    if (previous_id := body.previous_response_id) is not None:
        if (stored := store.get(owner, previous_id)) is None:
            message = f"previous_response_id: there is no stored response {previous_id!r}; send the whole dialogue."
            raise RequestError(400, message, param="previous_response_id", code="previous_response_not_found")
        previous = stored.messages
    return [*previous, *body.input_messages(lambda item_id: store.find_item(owner, item_id))]


def _store(request: Request, body: ResponsesRequest, response: Json, dialogue: Sequence[Message]) -> None:
    """Store a finished response, unless the request says not to. A call that was cut cannot be continued."""
    if body.store is False:
        return
    messages = list(dialogue)
    try:
        for item in response["output"]:
            append_item(messages, output_to_input(item))
    except RequestError:
        return
    app_state_of(request).responses.add(_owner(request), response, messages)


async def _events(
    request: Request, writer: _ResponseWriter, started: StartedChat, body: ResponsesRequest, dialogue: list[Message]
) -> AsyncIterator[Json]:
    stream = started.stream
    yield {"type": "response.created", "response": writer.started()}
    yield {"type": "response.in_progress", "response": writer.started()}
    builder = ItemBuilder(started.dialect)
    async for event in stream_items(stream, builder):
        if isinstance(event, Completion):
            record_usage(request, [event])
            response = writer.finished(builder.items, event) | confidence_fields(stream)
            _store(request, body, response, dialogue)
            yield {"type": f"response.{response['status']}", "response": response}
        else:
            for item_event in writer.events(event):
                yield item_event


def _error_event(error: RequestError) -> Json:
    return {"type": "error", "code": error.code, "message": error_message(error), "param": error.param}


def _format(event: Json, numbers: Iterator[int]) -> str:
    return format_event({**event, "sequence_number": next(numbers)}, event["type"])


class _ResponseWriter:
    """Writes output items in the form of a response."""

    def __init__(self, body: ResponsesRequest) -> None:
        given = body.model_dump(mode="json", by_alias=True, exclude_none=True)
        temperature, top_p = apply_sampling_defaults(body.temperature, body.top_p)
        self._item_ids: dict[int, str] = {}
        self._fields: Json = {
            "id": _new_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "model": body.model,
            "error": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "store": body.store is not False,
            "temperature": temperature,
            "text": given.get("text", {"format": {"type": "text"}}),
            "tool_choice": given.get("tool_choice", "auto"),
            "tools": [{"parameters": None, "strict": None, **tool} for tool in given.get("tools", [])],
            "top_p": top_p,
            "truncation": "disabled",
        }

    def started(self) -> Json:
        """Return the response before its first item."""
        return {**self._fields, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}

    def finished(self, items: list[OutputItem], completion: Completion) -> Json:
        """Return the response with all items and the token counts."""
        is_cut = completion.finish_reason == "length"
        return {
            **self._fields,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self._item_object(item) for item in items],
            "usage": {
                "input_tokens": completion.prompt_tokens,
                "input_tokens_details": {"cached_tokens": completion.cached_tokens, "cache_write_tokens": 0},
                "output_tokens": completion.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": completion.prompt_tokens + completion.completion_tokens,
            },
        }

    def events(self, event: ItemEvent) -> list[Json]:
        """Return the events of the stream for one event of an item."""
        item = event.item
        if isinstance(event, ItemStart):
            return self._start_events(item)
        if isinstance(event, ItemDelta):
            if item.is_call:
                return [self._event(item, "response.function_call_arguments.delta", delta=event.text)]
            delta = {"content_index": 0, "delta": event.text, "logprobs": []}
            return [self._event(item, "response.output_text.delta", **delta)]
        return self._end_events(item)

    def _start_events(self, item: OutputItem) -> list[Json]:
        item_object = {**self._item_object(item), "status": "in_progress"}
        if item.is_call:
            return [{"type": "response.output_item.added", "output_index": item.index, "item": item_object}]
        added = {"output_index": item.index, "item": {**item_object, "content": []}}
        return [
            {"type": "response.output_item.added", **added},
            self._event(item, "response.content_part.added", content_index=0, part=_text_part("")),
        ]

    def _end_events(self, item: OutputItem) -> list[Json]:
        if item.is_call:
            done = {"name": item.name, "arguments": item.text}
            events = [self._event(item, "response.function_call_arguments.done", **done)]
        else:
            done_text: Json = {"content_index": 0, "text": item.text, "logprobs": []}
            events = [
                self._event(item, "response.output_text.done", **done_text),
                self._event(item, "response.content_part.done", content_index=0, part=_text_part(item.text)),
            ]
        done_item = {"output_index": item.index, "item": self._item_object(item)}
        return [*events, {"type": "response.output_item.done", **done_item}]

    def _event(self, item: OutputItem, kind: str, **fields: Any) -> Json:
        return {"type": kind, "item_id": self._item_id(item), "output_index": item.index, **fields}

    def _item_object(self, item: OutputItem) -> Json:
        status = "completed" if item.is_complete else "incomplete"
        if item.is_call:
            call = {"call_id": item.call_id, "name": item.name, "arguments": item.text}
            return {"type": "function_call", "id": self._item_id(item), **call, "status": status}
        content = [_text_part(item.text)]
        return {
            "type": "message", "id": self._item_id(item), "role": "assistant", "content": content, "status": status
        }  # fmt: skip

    def _item_id(self, item: OutputItem) -> str:
        return self._item_ids.setdefault(item.index, _new_id("fc" if item.is_call else "msg"))


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
