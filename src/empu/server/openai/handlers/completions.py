"""Handler of text completions."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu.engine.outputs import Completion, TextDelta, TokenLogprobs
from empu.engine.prompt import EncodedPrompt
from empu.errors import UsageError
from empu.server.http.app_state import add_log_fields, app_state_of, record_usage, report_ignored
from empu.server.http.body import read_body
from empu.server.http.disconnect import disconnect_of
from empu.server.http.sse import format_event
from empu.server.openai.protocol.completions import DEFAULT_MAX_TOKENS, CompletionRequest
from empu.server.openai.streaming import DONE, completion_stream
from empu.server.openai.usage import usage
from empu.serving.completions import CompletionInput, CompletionStream, ScoredPrompts, expand_choices
from empu.serving.errors import RequestError
from empu.serving.prompt_logprobs import prompt_logprobs, unscored_token
from empu.serving.registry import ServedModel
from empu.serving.service import check_logit_bias, make_constraints, tuned_schema
from empu.serving.tools.types import ToolSet

Json = dict[str, Any]


async def completions(request: Request) -> Response:
    """``POST /v1/completions``."""
    body = await read_body(request, CompletionRequest)
    add_log_fields(request, model=body.model, stream=bool(body.stream))
    scores_only = body.max_tokens == 0
    params = body.sampling_params(max_tokens=body.max_tokens or DEFAULT_MAX_TOKENS, logprobs=body.logprobs)
    served = await app_state_of(request).registry.get(body.model)
    if served.label_task is not None:
        message = f"{body.model} answers with labels; use /v1/chat/completions."
        raise RequestError(400, message, param="model", code="unsupported")
    if (schema := tuned_schema(served)) is not None and params.stop:
        params = replace(params, stop=())  # the grammar ends the answer
        report_ignored(request, ["stop"])
    check_logit_bias(served, params)
    inputs: list[CompletionInput] = []
    echoes: list[_Echo] = []
    n = body.n or 1
    for item in body.prompts:
        prompt = await served.encode(item) if isinstance(item, str) else _prompt_of_ids(served, item)
        constraints = await make_constraints(served, None, ToolSet(), schema, "model", n)
        inputs += expand_choices(prompt, params, n, constraints)
        text = item if isinstance(item, str) else served.model.text.tokenizer.decode(item)
        tokens: tuple[TokenLogprobs, ...] = ()
        if body.echo and body.logprobs is not None:
            first = unscored_token(served, prompt.ids[0])
            tokens = (first, *await prompt_logprobs(served, prompt.ids, body.logprobs))
        echoes += [_Echo(text, tokens) if body.echo else _Echo()] * n
    stream: CompletionStream | ScoredPrompts
    if scores_only:
        stream = ScoredPrompts([len(item.prompt.ids) for item in inputs])
    else:
        stream = CompletionStream(disconnect_of(request), served, inputs)
    writer = _CompletionWriter(body.model, served)
    if body.stream:
        return completion_stream(_events(request, writer, stream, echoes, n, body.include_usage))
    finished = await stream.all()
    record_usage(request, finished, n)
    choices = [
        writer.choice(
            i,
            echoes[i].text + completion.text,
            completion.finish_reason,
            None if body.logprobs is None else (*echoes[i].tokens, *(completion.logprobs or ())),
            0,
        )
        for i, completion in enumerate(finished)
    ]
    return JSONResponse(writer.response(choices) | {"usage": usage(finished, n)})


async def _events(
    request: Request,
    writer: _CompletionWriter,
    stream: CompletionStream | ScoredPrompts,
    echoes: list[_Echo],
    n: int,
    include_usage: bool,
) -> AsyncIterator[str]:
    finished: dict[int, Completion] = {}
    no_usage: Json = {"usage": None} if include_usage else {}
    offsets = [sum(len(token.text) for token in echo.tokens) for echo in echoes]
    for index, echo in enumerate(echoes):
        if echo.text:
            choice = writer.choice(index, echo.text, None, echo.tokens or None, 0)
            yield format_event(writer.response([choice]) | no_usage)
    async for index, update in stream:
        if isinstance(update, TextDelta):
            if update.text or update.logprobs:
                choice = writer.choice(index, update.text, None, update.logprobs or None, offsets[index])
                offsets[index] += sum(len(token.text) for token in update.logprobs)
                yield format_event(writer.response([choice]) | no_usage)
        else:
            finished[index] = update
            choice = writer.choice(index, "", update.finish_reason, None, 0)
            yield format_event(writer.response([choice]) | no_usage)
    in_order = [finished[index] for index in sorted(finished)]
    record_usage(request, in_order, n)
    if include_usage:
        yield format_event(writer.response([]) | {"usage": usage(in_order, n)})
    yield DONE


@dataclass(frozen=True, slots=True)
class _Echo:
    """The prompt, as a part of the answer; with its tokens if log-probabilities are requested."""

    text: str = ""
    tokens: tuple[TokenLogprobs, ...] = ()


class _CompletionWriter:
    """Writes completions in the form of text completions."""

    def __init__(self, model_name: str, served: ServedModel) -> None:
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._model_name = model_name
        self._backend_name = served.model.backend.name

    def response(self, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model_name,
            "system_fingerprint": self._backend_name,
            "choices": choices,
        }

    def choice(
        self,
        index: int,
        text: str,
        finish_reason: str | None,
        tokens: tuple[TokenLogprobs, ...] | None,
        text_offset: int,
    ) -> Json:
        logprobs = None
        if tokens is not None:
            offsets = [text_offset]
            for token in tokens[:-1]:
                offsets.append(offsets[-1] + len(token.text))
            logprobs = {
                "tokens": [token.text for token in tokens],
                "token_logprobs": [None if math.isnan(token.logprob) else token.logprob for token in tokens],
                "top_logprobs": [None if math.isnan(token.logprob) else _top_logprobs(token) for token in tokens],
                "text_offset": offsets[: len(tokens)],
            }
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def _top_logprobs(token: TokenLogprobs) -> dict[str, float]:
    """Return text -> log-probability.

    Several tokens may have the same text, mostly a part of a character: the most likely has it, others their id.
    """
    logprobs: dict[str, float] = {}
    for top in token.top:
        logprobs[top.text if top.text not in logprobs else f"token_id:{top.token}"] = top.logprob
    return logprobs


def _prompt_of_ids(served: ServedModel, ids: list[int]) -> EncodedPrompt:
    vocab_size = served.model.config.vocab_size
    if max(ids) >= vocab_size:
        raise UsageError(f"prompt contains the token id {max(ids)}; the vocabulary has {vocab_size:,} tokens.")
    return EncodedPrompt(ids)
