"""Completions of one request while they are generated, in asyncio."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from empu.engine.generation import TokenConstraint
from empu.engine.language_model import LabelPrediction
from empu.engine.outputs import Completion, TextDelta, TokenLogprobs, TopLogprob
from empu.engine.prompt import EncodedPrompt
from empu.engine.request import GenerationRequest, RequestUpdate
from empu.engine.sampling import SamplingParams
from empu.serving.errors import RequestError
from empu.serving.registry import ServedModel
from empu.text.task import NO_LABEL

LABEL_TOKEN = -1
"""Token id that stands for a whole label."""

Disconnect = Callable[[], Awaitable[None]]
"""Returns once the client has disconnected."""


@dataclass(frozen=True, slots=True)
class CompletionInput:
    """What one completion is generated from."""

    prompt: EncodedPrompt
    params: SamplingParams
    constraint: TokenConstraint | None = None
    is_done: Callable[[str], bool] | None = None
    """Called with each piece of text; returns whether nothing more is needed. The completion then ends."""


class CompletionStream:
    """Several completions, generated side by side.

    Iterate for (index, update) pairs; the last update of each index is its :class:`Completion`.
    """

    def __init__(self, disconnect: Disconnect, served: ServedModel, inputs: Sequence[CompletionInput]) -> None:
        """Submit all inputs, or none if the queue has no room for all. ``disconnect`` cancels those that still run.

        Raises :class:`~empu.errors.QueueFullError` for a full queue, and :class:`RequestError` (400) for more
        completions than the server can ever hold.
        """
        config = served.scheduler.config
        capacity = config.max_running + config.max_waiting
        if len(inputs) > capacity:
            message = f"The request asks for {len(inputs)} completions; this server holds at most {capacity}."
            raise RequestError(400, message, param="n", code="invalid_value")
        self.confidence: float | None = None
        self.closest_label: str | None = None
        self.prompt_tokens = sum(len(item.prompt.ids) for item in inputs)
        self._updates: asyncio.Queue[tuple[int, RequestUpdate]] = asyncio.Queue()
        self._num_open = len(inputs)
        self._is_done = [item.is_done for item in inputs]
        self._ended_early: set[int] = set()
        self._requests: list[GenerationRequest] = []
        bridge = served.engine.bridge

        def deliver(index: int, update: RequestUpdate) -> None:
            bridge.put(self._updates, (index, update))

        try:
            for index, item in enumerate(inputs):
                self._requests.append(
                    served.scheduler.submit(
                        item.prompt, item.params, partial(deliver, index), item.constraint, backend=served.model.backend
                    )
                )
        except Exception:
            self.cancel()
            raise
        self._disconnect_task = asyncio.create_task(self._cancel_on_disconnect(disconnect))

    async def __aiter__(self) -> AsyncIterator[tuple[int, TextDelta | Completion]]:
        try:
            while self._num_open:
                index, update = await self._updates.get()
                if isinstance(update, Exception):
                    raise update
                if isinstance(update, Completion):
                    self._num_open -= 1
                    if index in self._ended_early and update.finish_reason == "cancelled":
                        update = replace(update, finish_reason="stop")
                elif (is_done := self._is_done[index]) is not None and is_done(update.text):
                    self._ended_early.add(index)
                    self._requests[index].cancel()
                yield index, update
        finally:
            self._disconnect_task.cancel()
            self.cancel()

    async def all(self) -> list[Completion]:
        """Wait for every completion and return them in order."""
        completions = {index: update async for index, update in self if isinstance(update, Completion)}
        return [completions[index] for index in sorted(completions)]

    def cancel(self) -> None:
        """Cancel the completions that are still generated."""
        for request in self._requests:
            if request.state.finish_reason is None:
                request.cancel()

    async def _cancel_on_disconnect(self, disconnect: Disconnect) -> None:
        await disconnect()
        self.cancel()


class LabelStream:
    """The label that a label specialist chose, as a completion of one delta."""

    def __init__(
        self,
        ranked: Sequence[LabelPrediction],
        prompt_tokens: int,
        completion_tokens: int,
        top_logprobs: int | None,
        *,
        is_out_of_scope: bool,
    ) -> None:
        """``ranked``: labels, most likely first. ``is_out_of_scope``: even the first is too unlikely to be given."""
        best = ranked[0]
        text = NO_LABEL if is_out_of_scope else best.label
        self.confidence: float | None = best.confidence
        self.closest_label: str | None = best.label if is_out_of_scope else None
        self.prompt_tokens = prompt_tokens
        logprobs = None
        if top_logprobs is not None:
            top = tuple(TopLogprob(LABEL_TOKEN, v.label, _log(v.confidence)) for v in ranked[:top_logprobs])
            logprobs = (TokenLogprobs(LABEL_TOKEN, best.label, _log(best.confidence), top),)
        self._delta = TextDelta(text, (), logprobs or ())
        self._completion = Completion.of_text(text, prompt_tokens, completion_tokens, logprobs)

    async def __aiter__(self) -> AsyncIterator[tuple[int, TextDelta | Completion]]:
        yield 0, self._delta
        yield 0, self._completion

    async def all(self) -> list[Completion]:
        """Return the one completion."""
        return [self._completion]


class ScoredPrompts:
    """Empty completions, for requests that only want their prompts scored."""

    def __init__(self, prompt_tokens: Sequence[int]) -> None:
        self._completions = [
            replace(Completion.of_text("", tokens, 0), finish_reason="length") for tokens in prompt_tokens
        ]

    async def __aiter__(self) -> AsyncIterator[tuple[int, TextDelta | Completion]]:
        for index, completion in enumerate(self._completions):
            yield index, completion

    async def all(self) -> list[Completion]:
        """Return every completion."""
        return self._completions


AnyStream = CompletionStream | LabelStream


def expand_choices(
    prompt: EncodedPrompt, params: SamplingParams, n: int, constraints: Sequence[TokenConstraint | None] = ()
) -> list[CompletionInput]:
    """Return the inputs of ``n`` choices for one prompt. A given seed counts up from choice to choice.

    ``constraints`` holds one for each choice, if any.
    """
    seeds = [None if params.seed is None else (params.seed + i) % (1 << 63) for i in range(n)]
    choices = zip(seeds, constraints or [None] * n, strict=True)
    return [CompletionInput(prompt, replace(params, seed=seed), constraint) for seed, constraint in choices]


def _log(probability: float) -> float:
    return math.log(max(probability, 1e-12))
