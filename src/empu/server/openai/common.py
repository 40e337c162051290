"""What OpenAI's interfaces share: the envelope of errors, counts, and streams of events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import JSONResponse, Response

from empu.engine.generation import Completion
from empu.server.http.sse import stream
from empu.serving.errors import ProblemError

Json = dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def error_response(problem: ProblemError) -> Response:
    """OpenAI's envelope."""
    headers = {"Retry-After": str(problem.retry_after_s)} if problem.retry_after_s else None
    return JSONResponse({"error": _error(problem)}, problem.status, headers)


def _error(problem: ProblemError) -> Json:
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        problem.status, "invalid_request_error" if problem.status < 500 else "server_error"
    )
    return {"message": _sayable(str(problem)), "type": kind, "param": problem.param, "code": problem.code}


def usage(completions: list[Completion], n: int | None = None) -> Json:
    """True counts; a prompt that ``n`` answers share is counted once."""
    prompts = completions[:: n or len(completions) or 1]
    read, written = sum(one.prompt_tokens for one in prompts), sum(one.completion_tokens for one in completions)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts)},
    }


def event_stream(events: AsyncIterator[str]) -> Response:
    """Server-sent events; an error on the way becomes the last one."""
    return stream(events, lambda problem: data({"error": _error(problem)}))


def data(value: Json) -> str:
    """One event."""
    return f"data: {_ENCODER.encode(value)}\n\n"


def _sayable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
