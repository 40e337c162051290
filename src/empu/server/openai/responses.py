"""OpenAI's responses: an answer as a list of items (its text, its calls of tools), whole or as events in order."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.engine.generation import Completion, Piece
from empu.server.http.app_state import context_of, note, note_usage
from empu.server.http.body import read_body
from empu.server.http.sse import stream
from empu.server.openai.responses_protocol import ResponsesRequest
from empu.serving.completions import AnyAnswers
from empu.serving.errors import ProblemError
from empu.serving.sampling_defaults import drawing
from empu.serving.service import ask, confidence
from empu.serving.tools.dialects import Form
from empu.serving.tools.parser import CallBegins, Part, Text, ToolReader

Json = dict[str, Any]


async def responses(request: Request) -> Response:
    """``POST /v1/responses``."""
    asked = await read_body(request, ResponsesRequest)
    note(request, model=asked.model, stream=bool(asked.stream))
    tools, dialogue = asked.offered, asked.dialogue
    served = await context_of(request).catalogue.get(asked.model)
    answers, form = await ask(
        request, served, dialogue, asked.sampling, schema=asked.schema_, param="text", tools=tools
    )
    shape = _Shape(asked)
    if asked.stream:
        numbers = itertools.count()
        events = (_written(event, numbers) async for event in _events(request, shape, answers, form))
        return stream(events, lambda problem: _written(_said(problem), numbers))
    (completion,) = await answers.all()
    note_usage(request, [completion])
    items, reader = Items(), ToolReader(form)
    for part in (*reader.feed(completion.text), *reader.finish()):
        items.add(part)
    items.end(completion)
    return JSONResponse(shape.ended(items, completion) | confidence(answers))


async def _events(request: Request, shape: _Shape, answers: AnyAnswers, form: Form | None) -> AsyncIterator[Json]:
    yield {"type": "response.created", "response": shape.begun()}
    yield {"type": "response.in_progress", "response": shape.begun()}
    items, reader = Items(), ToolReader(form)
    async for _, update in answers:
        for part in reader.feed(update.text) if isinstance(update, Piece) else reader.finish():
            for event in items.add(part):
                yield event
        if isinstance(update, Completion):
            note_usage(request, [update])
            for event in items.end(update):
                yield event
            last = shape.ended(items, update) | confidence(answers)
            yield {"type": f"response.{last['status']}", "response": last}


def _said(problem: ProblemError) -> Json:
    message = str(problem).encode("utf-8", "replace").decode()
    return {"type": "error", "code": problem.code, "message": message, "param": problem.param}


def _written(event: Json, numbers: Iterator[int]) -> str:
    value = json.dumps({**event, "sequence_number": next(numbers)}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {value}\n\n"


class Items:
    """The items of an answer as they grow. Each method gives the events that tell of it."""

    def __init__(self) -> None:
        self.output: list[Json] = []
        self._open = False

    def add(self, part: Part) -> list[Json]:
        """Take one more part."""
        if isinstance(part, CallBegins):
            item = {"type": "function_call", "id": _id("fc"), "call_id": part.id, "name": part.name, "arguments": ""}
            return [*self._close("completed"), *self._begin(item)]
        if not isinstance(part, Text):
            self.output[-1]["arguments"] += part.text
            return [self._event("response.function_call_arguments.delta", delta=part.text)]
        begun = [] if self._open else self._begin_text()
        self.output[-1]["content"][0]["text"] += part.text
        return [*begun, self._event("response.output_text.delta", content_index=0, delta=part.text, logprobs=[])]

    def end(self, completion: Completion) -> list[Json]:
        """Close the last item; an answer has one at least."""
        begun = [] if self.output else self._begin_text()
        return [*begun, *self._close("incomplete" if completion.finish_reason == "length" else "completed")]

    def _begin_text(self) -> list[Json]:
        part: Json = {"type": "output_text", "text": "", "annotations": []}
        item = {"type": "message", "id": _id("msg"), "role": "assistant", "content": []}
        begun = self._begin(item)
        self.output[-1]["content"] = [part]
        return [*begun, self._event("response.content_part.added", content_index=0, part=dict(part))]

    def _begin(self, item: Json) -> list[Json]:
        self.output.append({**item, "status": "in_progress"})
        self._open = True
        added = {"output_index": len(self.output) - 1, "item": dict(self.output[-1])}
        return [{"type": "response.output_item.added", **added}]

    def _close(self, status: str) -> list[Json]:
        if not self._open:
            return []
        self._open = False
        item = self.output[-1]
        item["status"] = status
        if item["type"] == "message":
            (part,) = item["content"]
            events = [
                self._event("response.output_text.done", content_index=0, text=part["text"], logprobs=[]),
                self._event("response.content_part.done", content_index=0, part=part),
            ]
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            events = [self._event("response.function_call_arguments.done", **done)]
        return [*events, {"type": "response.output_item.done", "output_index": len(self.output) - 1, "item": item}]

    def _event(self, kind: str, **more: Any) -> Json:
        return {"type": kind, "item_id": self.output[-1]["id"], "output_index": len(self.output) - 1, **more}


class _Shape:
    """Puts items into the shape of a response."""

    def __init__(self, asked: ResponsesRequest) -> None:
        given = asked.model_dump(mode="json", by_alias=True, exclude_none=True)
        temperature, top_p = drawing(asked.temperature, asked.top_p)
        self._head: Json = {
            "id": _id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "model": asked.model,
            "error": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": {},
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": temperature,
            "text": given.get("text", {"format": {"type": "text"}}),
            "tool_choice": given.get("tool_choice", "auto"),
            "tools": [{"parameters": None, "strict": None, **one} for one in given.get("tools", [])],
            "top_p": top_p,
            "truncation": "disabled",
        }

    def begun(self) -> Json:
        """Before the first item."""
        return {**self._head, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}

    def ended(self, items: Items, completion: Completion) -> Json:
        """With all items and the true counts."""
        is_cut = completion.finish_reason == "length"
        return {
            **self._head,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": items.output,
            "usage": {
                "input_tokens": completion.prompt_tokens,
                "input_tokens_details": {"cached_tokens": completion.cached_tokens, "cache_write_tokens": 0},
                "output_tokens": completion.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": completion.prompt_tokens + completion.completion_tokens,
            },
        }


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"
