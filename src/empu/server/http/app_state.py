"""State shared by all handlers of a server, and the fields that a handler adds to the request log."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from empu.engine.outputs import Completion
from empu.server.http.api_keys import ApiKeys
from empu.server.http.metrics import Metrics
from empu.server.http.sessions import Sessions
from empu.serving.encoders import EncoderService
from empu.serving.registry import ModelRegistry
from empu.serving.response_store import ResponseStore

MAX_IGNORED = 20
"""Ignored properties that are reported."""
MAX_IGNORED_LENGTH = 64
"""Characters of the path of one."""


@dataclass(frozen=True)
class AppState:
    """The parts of one server."""

    registry: ModelRegistry
    keys: ApiKeys
    hosts: frozenset[str]
    """Allowed ``Host`` headers."""
    sessions: Sessions = field(default_factory=Sessions)
    metrics: Metrics = field(default_factory=Metrics)
    encoders: EncoderService = field(default_factory=EncoderService)
    responses: ResponseStore = field(default_factory=ResponseStore)
    started_at: int = field(default_factory=lambda: int(time.time()))


def app_state_of(request: Request) -> AppState:
    """Return the server's state."""
    state = request.app.state.app_state
    assert isinstance(state, AppState)
    return state


def add_log_fields(request: Request, **fields: Any) -> None:
    """Add fields to the log line of this request: never text of a prompt or an answer."""
    request.scope.setdefault("empu.log_fields", {}).update(fields)


def report_ignored(request: Request, paths: Iterable[str]) -> None:
    """Report properties that were ignored: in the log line, and in the response header ``x-empu-ignored``."""
    names: list[str] = request.scope.setdefault("empu.ignored", [])
    for path in paths:
        name = re.sub(r"[^\w.*-]", "?", path, flags=re.ASCII)[:MAX_IGNORED_LENGTH]
        if name not in names and len(names) < MAX_IGNORED:
            names.append(name)
    if names:
        add_log_fields(request, ignored=names)


def record_usage(request: Request, completions: list[Completion], n: int = 1) -> None:
    """Log and count finished completions. A prompt that ``n`` of them share is counted once."""
    prompts = completions[::n]
    add_log_fields(
        request,
        prompt_tokens=sum(completion.prompt_tokens for completion in prompts),
        cached_tokens=sum(completion.cached_tokens for completion in prompts),
        completion_tokens=sum(completion.completion_tokens for completion in completions),
        finish_reason=",".join(sorted({completion.finish_reason for completion in completions})),
    )
    metrics = app_state_of(request).metrics
    model = str(request.scope["empu.log_fields"].get("model", "unknown"))
    metrics.answers.update((model, completion.finish_reason) for completion in completions)
    durations = [completion.timings.first_token_s for completion in completions]
    if measured := [duration for duration in durations if duration > 0]:
        metrics.first_token_durations.observe(min(measured))
