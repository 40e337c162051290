"""``/api/conversations``: conversations, and their answers as streams.

An answer is saved while it is generated, even if the client disconnects.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.chat.conversations import ChatMessage, Conversation
from empu.engine.outputs import Completion, TextDelta
from empu.errors import UsageError
from empu.server.http.app_state import add_log_fields, app_state_of, record_usage
from empu.server.http.body import read_body
from empu.server.http.disconnect import disconnect_of
from empu.server.http.sse import format_event
from empu.server.openai.streaming import completion_stream
from empu.server.ui.active_answers import ActiveAnswer
from empu.server.ui.protocol import AskQuestion, ChatSettings, CreateConversation, UpdateConversation
from empu.server.ui.state import owner_of, ui_state_of
from empu.serving.completions import AnyStream
from empu.serving.errors import RequestError
from empu.serving.service import ChatInput, confidence_fields, start_chat

Json = dict[str, Any]
T = TypeVar("T")

NUM_LABELS = 5
"""Labels with their probability, for a label specialist."""
PAGE_SIZE = 50


async def list_conversations(request: Request) -> Response:
    """``GET /api/conversations``: newest first; query parameters ``search`` and ``before``."""
    query, store, owner = request.query_params, ui_state_of(request).conversations, owner_of(request)

    def read() -> tuple[list[Conversation], bool]:
        search, before = query.get("search", ""), query.get("before")
        return store.list_conversations(owner, search=search, before=before, limit=PAGE_SIZE)

    conversations, has_more = await asyncio.to_thread(read)
    listed = [conversation.to_json() for conversation in conversations]
    return JSONResponse({"conversations": listed, "more": has_more})


async def create(request: Request) -> Response:
    """``POST /api/conversations``."""
    body = await read_body(request, CreateConversation)
    store, settings = ui_state_of(request).conversations, body.settings.model_dump()
    conversation = await asyncio.to_thread(store.create, owner_of(request), body.model, settings, body.title)
    return JSONResponse(_to_json(conversation, []), 201)


async def retrieve(request: Request) -> Response:
    """``GET /api/conversations/{id}``: with the messages of all branches."""
    return JSONResponse(await asyncio.to_thread(_read, request, request.path_params["id"]))


async def update(request: Request) -> Response:
    """``PATCH /api/conversations/{id}``."""
    body = await read_body(request, UpdateConversation)
    changes = body.model_dump(exclude_none=True)
    store, conversation_id = ui_state_of(request).conversations, request.path_params["id"]
    conversation = await _or_not_found(lambda: store.update(owner_of(request), conversation_id, **changes))
    return JSONResponse(conversation.to_json())


async def delete(request: Request) -> Response:
    """``DELETE /api/conversations/{id}``; all: ``DELETE /api/conversations``."""
    state, conversation_id = ui_state_of(request), request.path_params.get("id")
    num_deleted = await _or_not_found(lambda: state.conversations.delete(owner_of(request), conversation_id))
    state.active_answers.stop(owner_of(request), conversation_id)  # nobody will read them
    return JSONResponse({"deleted": num_deleted})


async def export(request: Request) -> Response:
    """``GET /api/conversations/{id}/export`` and ``GET /api/export``: a JSON file."""
    conversation_id = request.path_params.get("id")

    def read() -> list[Json]:
        store, owner = ui_state_of(request).conversations, owner_of(request)
        if conversation_id is not None:
            return [_read(request, conversation_id)]
        exported: list[Json] = []
        before, has_more = None, True
        while has_more:
            page, has_more = store.list_conversations(owner, before=before, limit=PAGE_SIZE)
            exported += [_read(request, conversation.id) for conversation in page]
            before = page[-1].updated_at if page else None
        return exported

    def write() -> str:
        document = {"format": "empu-conversations", "version": 1, "conversations": read()}
        return json.dumps(document, ensure_ascii=False, indent=1)

    text = await asyncio.to_thread(write)
    name = f"conversation-{conversation_id}.json" if conversation_id is not None else "conversations.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/json", headers=headers)


async def answer(request: Request) -> Response:
    """``POST /api/conversations/{id}/answers``: a stream of the events ``begin``, ``text``…, ``end``."""
    body = await read_body(request, AskQuestion)
    state, owner, conversation_id = ui_state_of(request), owner_of(request), request.path_params["id"]
    store = state.conversations
    conversation = await _or_not_found(lambda: store.get(owner, conversation_id))
    path = await _or_not_found(lambda: store.path_to(owner, conversation_id, body.parent))
    if body.content is None and (not path or path[-1].role != "user"):
        message = "content is missing, and parent is not a question that can be answered again."
        raise RequestError(400, message, param="content")
    settings = ChatSettings.model_validate(conversation.settings)
    messages: list[Json] = [{"role": "system", "content": settings.system}] if settings.system else []
    messages += [{"role": message.role, "content": message.content} for message in path]
    if body.content is not None:
        messages.append({"role": "user", "content": body.content})
    active = state.active_answers.add((owner, conversation_id))
    try:
        served = await app_state_of(request).registry.get(conversation.model)
        add_log_fields(request, model=conversation.model, stream=True)
        logprobs = NUM_LABELS if served.label_task is not None else None
        chat = ChatInput(messages, settings.sampling_params(logprobs=logprobs))
        stream = (await start_chat(disconnect_of(request), served, chat)).stream
        active.start(stream)
        if body.content is None:
            question = path[-1]
        else:
            question = await asyncio.to_thread(
                store.add_message, owner, conversation_id, body.parent, "user", body.content
            )
    except BaseException:
        state.active_answers.remove((owner, conversation_id), active)
        raise
    return completion_stream(_events(request, conversation, question, stream, active))


async def stop(request: Request) -> Response:
    """``POST /api/conversations/{id}/stop``: stops the answers in progress; their text so far is kept."""
    state, conversation_id = ui_state_of(request), request.path_params["id"]
    await _or_not_found(lambda: state.conversations.get(owner_of(request), conversation_id))
    return JSONResponse({"stopped": state.active_answers.stop(owner_of(request), conversation_id)})


async def _events(
    request: Request, conversation: Conversation, question: ChatMessage, stream: AnyStream, active: ActiveAnswer
) -> AsyncIterator[str]:
    state, owner = ui_state_of(request), owner_of(request)
    draft = state.writer.draft(owner, conversation.id, question.id)
    texts: list[str] = []
    labels: list[Json] = []
    num_tokens, completion = 0, None
    try:
        begin = {"type": "begin", "question": dataclasses.asdict(question), "prompt_tokens": stream.prompt_tokens}
        yield format_event(begin)
        async for _, update in stream:
            if isinstance(update, TextDelta):
                num_tokens += len(update.tokens)
                labels += [
                    {"label": top.text, "logprob": top.logprob} for token in update.logprobs for top in token.top
                ]
                if update.text:
                    texts.append(update.text)
                    if draft.is_due():
                        draft.save("".join(texts), _facts(conversation, stream, None, num_tokens))
                    yield format_event({"type": "text", "text": update.text, "tokens": num_tokens})
            else:
                completion = update
        if completion is not None:
            record_usage(request, [completion])
    finally:  # also runs when the client disconnects, so nothing here may wait
        state.active_answers.remove((owner, conversation.id), active)
        facts = _facts(conversation, stream, completion, num_tokens)
        if stream.confidence is not None:
            facts["labels"] = labels
        text = "".join(texts) if completion is None else completion.text
        saving = draft.save(text, facts)
    message = await asyncio.wrap_future(saving)
    yield format_event({"type": "end", "answer": dataclasses.asdict(message)})


def _facts(conversation: Conversation, stream: AnyStream, completion: Completion | None, num_tokens: int) -> Json:
    """Return what is stored with an answer besides its text. Without a completion the answer was cancelled."""
    facts: Json = {
        "model": conversation.model,
        "prompt_tokens": stream.prompt_tokens,
        "settings": conversation.settings,
    }
    if completion is None:
        return facts | {"completion_tokens": num_tokens, "finish_reason": "cancelled"}
    facts |= {
        "completion_tokens": completion.completion_tokens,
        "cached_tokens": completion.cached_tokens,
        "finish_reason": completion.finish_reason,
    }
    if stream.confidence is not None:
        return facts | confidence_fields(stream)
    return facts | {
        "seed": completion.seed,
        "first_token_s": round(completion.timings.first_token_s, 4),
        "tokens_per_s": completion.timings.decode_tokens_per_s,
    }


def _read(request: Request, conversation_id: str) -> Json:
    store, owner = ui_state_of(request).conversations, owner_of(request)
    try:
        return _to_json(store.get(owner, conversation_id), store.messages(owner, conversation_id))
    except UsageError as error:
        raise RequestError(404, str(error), code="conversation_not_found") from None


def _to_json(conversation: Conversation, messages: list[ChatMessage]) -> Json:
    return conversation.to_json() | {"messages": [dataclasses.asdict(message) for message in messages]}


async def _or_not_found(read: Callable[[], T]) -> T:
    """Run ``read`` in a thread. Raises :class:`RequestError` (404) for a :class:`UsageError`."""
    try:
        return await asyncio.to_thread(read)
    except UsageError as error:
        raise RequestError(404, str(error), code="not_found") from None
