"""``/api/feedback``: ratings and corrections of answers, and the training rows made from them."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.chat import feedback
from empu.errors import UsageError
from empu.server.http.body import read_body
from empu.server.ui.protocol import Rating, SaveRows
from empu.server.ui.state import owner_of, ui_state_of
from empu.serving.errors import RequestError

MAX_ITEMS = 200
"""Limit on the rated answers that the overview lists."""


async def rate(request: Request) -> Response:
    """``PUT /api/messages/{id}/feedback``."""
    body = await read_body(request, Rating)
    store, message_id = ui_state_of(request).conversations, request.path_params["id"]
    try:
        message = await asyncio.to_thread(
            store.set_feedback, owner_of(request), message_id, body.verdict, body.correction
        )
    except UsageError as error:
        raise RequestError(404, str(error), code="message_not_found") from None
    return JSONResponse(dataclasses.asdict(message))


async def overview(request: Request) -> Response:
    """``GET /api/feedback``: counts, and the newest rated answers."""

    def read() -> dict[str, Any]:
        store, owner = ui_state_of(request).conversations, owner_of(request)
        rated = store.rated_messages(owner)
        items = []
        for conversation, message in rated[::-1][:MAX_ITEMS]:
            question = store.path_to(owner, conversation.id, message.parent)[-1].content
            items.append(
                {
                    "conversation": conversation.id,
                    "title": conversation.title,
                    "question": question,
                    **dataclasses.asdict(message),
                }
            )
        rows = feedback.training_rows(store, owner)
        return {
            "up": sum(message.verdict == "up" for _, message in rated),
            "down": sum(message.verdict == "down" for _, message in rated),
            "corrections": sum(message.correction is not None for _, message in rated),
            "rows": {kind: len(rows_of_kind) for kind, rows_of_kind in rows.items()},
            "items": items,
        }

    return JSONResponse(await asyncio.to_thread(read))


async def export(request: Request) -> Response:
    """``GET /api/feedback/rows/{kind}``: JSON Lines."""
    kind = request.path_params["kind"]
    text = feedback.to_jsonl(await _rows(request, kind))
    headers = {"Content-Disposition": f'attachment; filename="feedback-{kind}.jsonl"'}
    return Response(text, media_type="application/jsonl", headers=headers)


async def save(request: Request) -> Response:
    """``POST /api/feedback/save``: writes the rows into the store, for ``empu tune``."""
    kind = (await read_body(request, SaveRows)).kind
    rows = await _rows(request, kind)
    if not rows:
        raise RequestError(400, f"There are no rows of the kind {kind} yet; rate or correct answers first.")
    path = await asyncio.to_thread(feedback.save_rows, ui_state_of(request).home, owner_of(request), kind, rows)
    command = f"empu tune {shlex.quote(str(path))} --name my-specialist"
    return JSONResponse({"path": str(path), "rows": len(rows), "command": command})


async def _rows(request: Request, kind: str) -> list[feedback.FeedbackRow]:
    if kind not in feedback.ROW_KINDS:
        kinds = ", ".join(feedback.ROW_KINDS)
        raise RequestError(404, f"There are no rows of the kind {kind!r}; the kinds are {kinds}.")
    store, owner = ui_state_of(request).conversations, owner_of(request)
    return (await asyncio.to_thread(feedback.training_rows, store, owner))[kind]
