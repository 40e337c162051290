"""``/api/conversations``: what the page keeps and asks. What was written of an answer is kept, whoever leaves."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from empu.chat.conversations import Heading, Message
from empu.engine.generation import Completion, Piece
from empu.engine.sampling import SamplingParams
from empu.errors import UsageError
from empu.server.http.app_state import context_of, note, note_usage
from empu.server.http.body import read_body
from empu.server.openai.common import data, event_stream
from empu.server.openai.protocol import Common
from empu.server.openai.tool_protocol import Strict
from empu.server.ui.persistence import Ongoing
from empu.server.ui.state import desk_of, owner_of
from empu.serving.completions import AnyAnswers
from empu.serving.errors import ProblemError
from empu.serving.service import ask, confidence

Json = dict[str, Any]

LABELS_SHOWN = 5
PAGE = 50
LONGEST = 400_000
"""Characters of one message."""


class Settings(Strict):
    """How answers are drawn. ``system`` is the system prompt; empty: the model's own."""

    system: str = Field(default="", max_length=LONGEST)
    temperature: float = Field(default=0.5, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    repetition_penalty: float = Field(default=1.1, gt=0, le=10)
    max_tokens: int = Field(default=1024, ge=1, le=1 << 30)
    seed: int | None = Field(default=None, ge=0, lt=1 << 53)

    def sampling(self, *, logprobs: int | None) -> SamplingParams:
        """As the engine takes them."""
        drawn = self.model_dump(exclude={"system", "max_tokens"})
        return Common(model="-", **drawn).sampling(max_tokens=self.max_tokens, logprobs=logprobs)


class Begin(Strict):
    """``POST /api/conversations``."""

    model: str = Field(min_length=1, max_length=256)
    title: str = Field(default="", max_length=200)
    settings: Settings = Field(default_factory=Settings)


class Change(Strict):
    """``PATCH /api/conversations/{id}``."""

    model: str | None = Field(default=None, min_length=1, max_length=256)
    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    settings: Settings | None = None
    leaf: int | None = None


class Ask(Strict):
    """``POST /api/conversations/{id}/answers``: a question behind ``parent``; without one, another answer to it."""

    parent: int | None = None
    content: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = None


async def listed(request: Request) -> Response:
    """``GET /api/conversations``: newest first; ``search``, ``before``."""
    query, desk, owner = request.query_params, desk_of(request), owner_of(request)

    def read() -> tuple[list[Heading], bool]:
        search, before = query.get("search", ""), query.get("before")
        return desk.conversations.headings(owner, search=search, before=before, limit=PAGE)

    headings, more = await asyncio.to_thread(read)
    return JSONResponse({"conversations": [dataclasses.asdict(one) for one in headings], "more": more})


async def begin(request: Request) -> Response:
    """``POST /api/conversations``."""
    wanted = await read_body(request, Begin)
    kept = desk_of(request).conversations
    settings = wanted.settings.model_dump()
    made = await asyncio.to_thread(kept.begin, owner_of(request), wanted.model, settings, wanted.title)
    return JSONResponse(_whole(made, []), 201)


async def one(request: Request) -> Response:
    """``GET /api/conversations/{id}``: with every message of all its branches."""
    return JSONResponse(await asyncio.to_thread(_read, request, request.path_params["id"]))


async def change(request: Request) -> Response:
    """``PATCH /api/conversations/{id}``."""
    wanted = await read_body(request, Change)
    given = wanted.model_dump(exclude_none=True)
    kept, identity = desk_of(request).conversations, request.path_params["id"]
    heading = await _found(lambda: kept.change(owner_of(request), identity, **given))
    return JSONResponse(dataclasses.asdict(heading))


async def delete(request: Request) -> Response:
    """``DELETE /api/conversations/{id}``, and of all: ``DELETE /api/conversations``."""
    desk, identity = desk_of(request), request.path_params.get("id")
    gone = await _found(lambda: desk.conversations.delete(owner_of(request), identity))
    desk.writing.stop(owner_of(request), identity)  # nobody will read them
    return JSONResponse({"deleted": gone})


async def export(request: Request) -> Response:
    """``GET /api/conversations/{id}/export`` and ``GET /api/export``: as a JSON file."""
    identity = request.path_params.get("id")

    def read() -> list[Json]:
        kept, owner = desk_of(request).conversations, owner_of(request)
        if identity is not None:
            return [_read(request, identity)]
        found, before, more = [], None, True
        while more:
            page, more = kept.headings(owner, before=before, limit=PAGE)
            found += [_read(request, heading.id) for heading in page]
            before = page[-1].updated_at if page else None
        return found

    def write() -> str:
        whole = {"format": "empu-conversations", "version": 1, "conversations": read()}
        return json.dumps(whole, ensure_ascii=False, indent=1)

    text = await asyncio.to_thread(write)
    name = f"conversation-{identity}.json" if identity is not None else "conversations.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/json", headers=headers)


async def answer(request: Request) -> Response:
    """``POST /api/conversations/{id}/answers``: events ``begin``, ``text``…, ``end``."""
    asked = await read_body(request, Ask)
    desk, owner, identity = desk_of(request), owner_of(request), request.path_params["id"]
    kept = desk.conversations
    heading = await _found(lambda: kept.heading(owner, identity))
    path = await _found(lambda: kept.path_to(owner, identity, asked.parent))
    if asked.content is None and (not path or path[-1].role != "user"):
        raise ProblemError(400, "content is missing, and parent is no question to answer again.", param="content")
    settings = Settings.model_validate(heading.settings)
    turns: list[Json] = [{"role": "system", "content": settings.system}] if settings.system else []
    turns += [{"role": message.role, "content": message.content} for message in path]
    if asked.content is not None:
        turns.append({"role": "user", "content": asked.content})
    ongoing = desk.writing.begin((owner_of(request), identity))
    try:
        served = await context_of(request).catalogue.get(heading.model)
        note(request, model=heading.model, stream=True)
        logprobs = LABELS_SHOWN if served.label_task is not None else None
        answers, _ = await ask(request, served, turns, settings.sampling(logprobs=logprobs))
        ongoing.begin(answers)
        question = path[-1] if asked.content is None else None
        if asked.content is not None:
            text = asked.content
            question = await asyncio.to_thread(kept.add, owner, identity, asked.parent, "user", text)
        assert question is not None
    except BaseException:
        desk.writing.end((owner_of(request), identity), ongoing)
        raise
    return event_stream(_events(request, heading, question, answers, ongoing))


async def stop(request: Request) -> Response:
    """``POST /api/conversations/{id}/stop``: end the answers that are being written; what there is of them is kept."""
    desk, identity = desk_of(request), request.path_params["id"]
    await _found(lambda: desk.conversations.heading(owner_of(request), identity))
    return JSONResponse({"stopped": desk.writing.stop(owner_of(request), identity)})


async def _events(
    request: Request, heading: Heading, question: Message, answers: AnyAnswers, ongoing: Ongoing
) -> AsyncIterator[str]:
    writing = desk_of(request).writing
    draft = writing.draft(owner_of(request), heading.id, question.id)
    texts: list[str] = []
    written, labels, done = 0, [], None
    try:
        yield data({"type": "begin", "question": dataclasses.asdict(question), "prompt_tokens": answers.prompt_tokens})
        async for _, update in answers:
            if isinstance(update, Piece):
                written += len(update.tokens)
                labels += [{"label": top.text, "logprob": top.logprob} for one in update.logprobs for top in one.top]
                if update.text:
                    texts.append(update.text)
                    if draft.is_due():
                        draft.keep("".join(texts), _facts(heading, answers, None, written))
                    yield data({"type": "text", "text": update.text, "tokens": written})
            else:
                done = update
        if done is not None:
            note_usage(request, [done])
    finally:  # reached by a stream that was torn too, so nothing here waits
        writing.end((owner_of(request), heading.id), ongoing)
        facts = _facts(heading, answers, done, written)
        if answers.confidence is not None:
            facts["labels"] = labels
        text = "".join(texts) if done is None else done.text
        kept = draft.keep(text, facts)
    message = await asyncio.wrap_future(kept)
    yield data({"type": "end", "answer": dataclasses.asdict(message)})


def _facts(heading: Heading, answers: AnyAnswers, done: Completion | None, written: int) -> Json:
    """What is kept of an answer beside its words."""
    facts: Json = {"model": heading.model, "prompt_tokens": answers.prompt_tokens, "settings": heading.settings}
    if done is None:
        return facts | {"completion_tokens": written, "finish_reason": "cancelled"}
    facts |= {
        "completion_tokens": done.completion_tokens,
        "cached_tokens": done.cached_tokens,
        "finish_reason": done.finish_reason,
    }
    if answers.confidence is not None:
        return facts | confidence(answers)
    return facts | {
        "seed": done.seed,
        "first_token_s": round(done.timings.first_token_s, 4),
        "tokens_per_s": done.timings.decode_tokens_per_s,
    }


def _read(request: Request, identity: str) -> Json:
    kept, owner = desk_of(request).conversations, owner_of(request)
    try:
        return _whole(kept.heading(owner, identity), kept.messages(owner, identity))
    except UsageError as error:
        raise ProblemError(404, str(error), code="conversation_not_found") from None


def _whole(heading: Heading, messages: list[Message]) -> Json:
    return dataclasses.asdict(heading) | {"messages": [dataclasses.asdict(message) for message in messages]}


async def _found(work: Any) -> Any:
    """``work`` in a thread; what is not there is a 404."""
    try:
        return await asyncio.to_thread(work)
    except UsageError as error:
        raise ProblemError(404, str(error), code="not_found") from None


ROUTES = [
    Route("/api/conversations", listed, methods=["GET"]),
    Route("/api/conversations", begin, methods=["POST"]),
    Route("/api/conversations", delete, methods=["DELETE"]),
    Route("/api/conversations/{id}", one, methods=["GET"]),
    Route("/api/conversations/{id}", change, methods=["PATCH"]),
    Route("/api/conversations/{id}", delete, methods=["DELETE"]),
    Route("/api/conversations/{id}/export", export, methods=["GET"]),
    Route("/api/conversations/{id}/answers", answer, methods=["POST"]),
    Route("/api/conversations/{id}/stop", stop, methods=["POST"]),
    Route("/api/export", export, methods=["GET"]),
]
