"""The answers to one request as they come, in asyncio; the one place where threads hand over to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from starlette.requests import Request

from empu.engine.generation import Alternative, Completion, Guide, Piece, Timings, TokenLogprobs
from empu.engine.language_model import Verdict
from empu.engine.prompt import Prompt
from empu.engine.request import Job, Update
from empu.engine.sampling import SamplingParams
from empu.serving.errors import ProblemError
from empu.serving.registry import Served
from empu.text.task import NONE_OF_THESE

LABEL_TOKEN = -1
"""Stands for a whole label where a token is expected."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer that is wanted."""

    prompt: Prompt
    params: SamplingParams
    guide: Guide | None = None


class Answers:
    """Several answers side by side: iterate for (index, update); the last update of each is its completion."""

    def __init__(self, request: Request, served: Served, asked: Sequence[Asked]) -> None:
        """Queues them all or, where the queue has no room, none. Raises :class:`~empu.errors.BusyError`, and
        :class:`ProblemError` for more than it ever has room for.
        """
        limits = served.scheduler.limits
        if len(asked) > limits.slots + limits.queue:
            message = (
                f"{len(asked)} answers are asked for, and this server holds {limits.slots + limits.queue} at most."
            )
            raise ProblemError(400, message, param="n", code="invalid_value")
        self.confidence: float | None = None
        self.closest: str | None = None
        self.prompt_tokens = sum(len(one.prompt.ids) for one in asked)
        self._updates: asyncio.Queue[tuple[int, Update]] = asyncio.Queue()
        self._open = len(asked)
        self._jobs: list[Job] = []
        post = served.engine.post

        def deliver(index: int, update: Update) -> None:
            post.send(self._updates, (index, update))

        try:
            for index, one in enumerate(asked):
                told = partial(deliver, index)
                self._jobs.append(
                    served.scheduler.submit(one.prompt, one.params, told, one.guide, model=served.model.backend)
                )
        except Exception:
            self.cancel()
            raise
        self._watch = asyncio.create_task(self._cancel_when_left(request))

    async def __aiter__(self) -> AsyncIterator[tuple[int, Piece | Completion]]:
        try:
            while self._open:
                index, update = await self._updates.get()
                if isinstance(update, Exception):
                    raise update
                self._open -= isinstance(update, Completion)
                yield index, update
        finally:
            self._watch.cancel()
            self.cancel()

    async def all(self) -> list[Completion]:
        """Every completion, in order."""
        found = {index: update async for index, update in self if isinstance(update, Completion)}
        return [found[index] for index in sorted(found)]

    def cancel(self) -> None:
        """Stop those that still run."""
        for job in self._jobs:
            if job.state.finish_reason is None:
                job.cancel()

    async def _cancel_when_left(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.cancel()


class LabelAnswers:
    """The verdict of a specialist for labels, as if it were an answer of one piece."""

    def __init__(
        self, verdicts: Sequence[Verdict], prompt_tokens: int, answer_tokens: int, top: int | None, *, refused: bool
    ) -> None:
        """``refused``: the likeliest label is too unlikely to be given."""
        best = verdicts[0]
        said = NONE_OF_THESE if refused else best.label
        self.confidence: float | None = best.confidence
        self.closest: str | None = best.label if refused else None
        self.prompt_tokens = prompt_tokens
        logprobs = None
        if top is not None:
            named = tuple(Alternative(LABEL_TOKEN, v.label, _log(v.confidence)) for v in verdicts[:top])
            logprobs = (TokenLogprobs(LABEL_TOKEN, best.label, _log(best.confidence), named),)
        self._piece = Piece(said, (), logprobs or ())
        self._completion = Completion(
            text=said,
            finish_reason="stop",
            stop_string=None,
            prompt_tokens=prompt_tokens,
            completion_tokens=answer_tokens,
            dropped_tokens=0,
            seed=0,
            timings=Timings(0.0, 0.0, 0.0, 0.0, None, None),
            logprobs=logprobs,
        )

    async def __aiter__(self) -> AsyncIterator[tuple[int, Piece | Completion]]:
        yield 0, self._piece
        yield 0, self._completion

    async def all(self) -> list[Completion]:
        """The one completion."""
        return [self._completion]


AnyAnswers = Answers | LabelAnswers


def alike(prompt: Prompt, params: SamplingParams, n: int, guides: Sequence[Guide | None] = ()) -> list[Asked]:
    """``n`` answers to one prompt: with a seed, the seeds that follow it; each with a guide of its own, if any."""
    seeds = [None if params.seed is None else (params.seed + i) % (1 << 63) for i in range(n)]
    several = zip(seeds, guides or [None] * n, strict=True)
    return [Asked(prompt, replace(params, seed=seed), guide) for seed, guide in several]


def _log(probability: float) -> float:
    return math.log(max(probability, 1e-12))
