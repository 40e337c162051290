"""What a request's handlers need of the server, and what the log learns from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from empu.engine.generation import Completion
from empu.server.http.auth import Keys, Sessions
from empu.server.http.metrics import Metrics
from empu.serving.encoders import Encoders
from empu.serving.registry import Catalogue


@dataclass(frozen=True)
class Context:
    """One server's parts."""

    catalogue: Catalogue
    keys: Keys
    hosts: frozenset[str]
    """The Host headers that mean this server."""
    sessions: Sessions = field(default_factory=Sessions)
    metrics: Metrics = field(default_factory=Metrics)
    encoders: Encoders = field(default_factory=Encoders)
    """Embedding models."""


def context_of(request: Request) -> Context:
    """The server's parts, for a handler."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


def note(request: Request, **facts: Any) -> None:
    """Facts for the line that the log gets about this request: never text of a prompt or an answer."""
    request.scope.setdefault("empu.facts", {}).update(facts)


def note_usage(request: Request, completions: list[Completion], n: int = 1) -> None:
    """The true counts of finished answers, for the log; a prompt that ``n`` answers share is counted once."""
    prompts = completions[::n]
    note(
        request,
        prompt_tokens=sum(one.prompt_tokens for one in prompts),
        cached_tokens=sum(one.cached_tokens for one in prompts),
        completion_tokens=sum(one.completion_tokens for one in completions),
        finish_reason=",".join(sorted({one.finish_reason for one in completions})),
    )
    metrics = context_of(request).metrics
    model = str(request.scope["empu.facts"].get("model", "unknown"))
    metrics.answers.update((model, one.finish_reason) for one in completions)
    if firsts := [one.timings.first_token_s for one in completions if one.timings.first_token_s > 0]:
        metrics.first_token.observe(min(firsts))
