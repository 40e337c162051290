"""``/api/feedback``: what one thinks of an answer, and the rows that this makes for tuning."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from empu.chat import feedback
from empu.errors import UsageError
from empu.server.http.body import read_body
from empu.server.openai.tool_protocol import Strict
from empu.server.ui.conversations import LONGEST
from empu.server.ui.state import desk_of, owner_of
from empu.serving.errors import ProblemError

MOST_SHOWN = 200


class Judgement(Strict):
    """``PUT /api/messages/{id}/feedback``; both null: none any more."""

    verdict: Literal["up", "down"] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=LONGEST, pattern=r"\S")] | None = None


class Save(Strict):
    """``POST /api/feedback/save``."""

    kind: Literal["labels", "messages", "preferences"]


async def judge(request: Request) -> Response:
    """``PUT /api/messages/{id}/feedback``."""
    wanted = await read_body(request, Judgement)
    kept, number = desk_of(request).conversations, request.path_params["id"]
    try:
        message = await asyncio.to_thread(kept.judge, owner_of(request), number, wanted.verdict, wanted.correction)
    except UsageError as error:
        raise ProblemError(404, str(error), code="message_not_found") from None
    return JSONResponse(dataclasses.asdict(message))


async def overview(request: Request) -> Response:
    """``GET /api/feedback``: how much there is of what, and the newest judgements."""

    def read() -> dict[str, Any]:
        kept, owner = desk_of(request).conversations, owner_of(request)
        judged = kept.judged(owner)
        items = []
        for heading, message in judged[::-1][:MOST_SHOWN]:
            question = kept.path_to(owner, heading.id, message.parent)[-1].content
            items.append(
                {
                    "conversation": heading.id,
                    "title": heading.title,
                    "question": question,
                    **dataclasses.asdict(message),
                }
            )
        return {
            "up": sum(message.verdict == "up" for _, message in judged),
            "down": sum(message.verdict == "down" for _, message in judged),
            "corrections": sum(message.correction is not None for _, message in judged),
            "rows": {kind: len(found) for kind, found in feedback.rows(kept, owner).items()},
            "items": items,
        }

    return JSONResponse(await asyncio.to_thread(read))


async def export(request: Request) -> Response:
    """``GET /api/feedback/rows/{kind}``: JSON Lines."""
    kind = request.path_params["kind"]
    text = feedback.as_lines(await _rows(request, kind))
    headers = {"Content-Disposition": f'attachment; filename="feedback-{kind}.jsonl"'}
    return Response(text, media_type="application/jsonl", headers=headers)


async def save(request: Request) -> Response:
    """``POST /api/feedback/save``: the same into the store's folder; its path and the command that takes it."""
    kind = (await read_body(request, Save)).kind
    found = await _rows(request, kind)
    if not found:
        raise ProblemError(400, f"There are no rows of the kind {kind} yet; judge or correct answers first.")
    path = await asyncio.to_thread(feedback.save, desk_of(request).home, owner_of(request), kind, found)
    return JSONResponse(
        {"path": str(path), "rows": len(found), "command": f"empu tune {shlex.quote(str(path))} --name my-specialist"}
    )


async def _rows(request: Request, kind: str) -> list[feedback.Row]:
    if kind not in feedback.KINDS:
        raise ProblemError(404, f"There are no rows of the kind {kind!r}; there are {', '.join(feedback.KINDS)}.")
    kept, owner = desk_of(request).conversations, owner_of(request)
    return (await asyncio.to_thread(feedback.rows, kept, owner))[kind]


ROUTES = [
    Route("/api/messages/{id:int}/feedback", judge, methods=["PUT"]),
    Route("/api/feedback", overview, methods=["GET"]),
    Route("/api/feedback/rows/{kind}", export, methods=["GET"]),
    Route("/api/feedback/save", save, methods=["POST"]),
]
