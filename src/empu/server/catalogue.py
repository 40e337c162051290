"""The models that a server answers with, opened when they are first asked for, each with its scheduler."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from empu.engine.language_model import LanguageModel, Verdict
from empu.engine.prompting import Prompt, encode_prompt
from empu.engine.scheduler import Limits, Scheduler
from empu.errors import PromptTooLongError
from empu.server.guiding import Guides
from empu.server.problems import ProblemError
from empu.text.base import Message
from empu.text.task import Task, encode_answer, encode_question, spoken

ALTERNATIVES = 20
"""Labels that are scored beside the best one, where they are asked for."""


class Served:
    """One open model. Its methods that take long run in other threads."""

    def __init__(self, name: str, model: LanguageModel, limits: Limits) -> None:
        self.name = name
        self.model = model
        self.scheduler = Scheduler(model.backend, model.text.tokenizer, model.context, limits)
        self.scheduler.start()
        self._encoding = threading.Lock()

    @property
    def label_task(self) -> Task | None:
        """The task of a specialist that answers with labels."""
        task = self.model.task
        return task if task is not None and task.kind == "label" else None

    @cached_property
    def guides(self) -> Guides:
        """Made when a schema is first asked for, since it takes a second for a large vocabulary."""
        return Guides(self.model.text, self.model.config.vocab_size)

    async def encode(self, prompt: str | Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> Prompt:
        """Token ids of a prompt. Raises :class:`PromptTooLongError` with both numbers."""

        def encode() -> Prompt:
            with self._encoding:
                return encode_prompt(self.model.text, prompt, limit=self.model.context - 1, tools=tools)

        try:
            return await asyncio.to_thread(encode)
        except PromptTooLongError as error:
            raise PromptTooLongError(error.prompt_tokens, error.limit, "shorten it") from None

    async def judge(self, text: str, count: int) -> tuple[list[Verdict], int, int]:
        """The likeliest labels of a text, best first; tokens of the question and of the answer."""
        task = self.label_task
        assert task is not None

        def work() -> tuple[list[Verdict], int, int]:
            verdicts = next(self.model.classify([text], count=count))
            answer = spoken(task.labels)[task.labels.index(verdicts[0].label)]
            asked = encode_question(self.model.text, task.messages(text))
            return verdicts, len(asked), len(encode_answer(self.model.text, answer))

        try:
            return await asyncio.wrap_future(self.scheduler.call(work))
        except PromptTooLongError as error:
            raise PromptTooLongError(error.prompt_tokens, error.limit, "shorten it") from None


class Catalogue:
    """Names and open models; at most ``most`` are kept open, and the one unused for longest makes room."""

    def __init__(
        self,
        names: Callable[[], Mapping[str, int]],
        opener: Callable[[str], LanguageModel],
        limits: Limits | None = None,
        *,
        most: int = 4,
    ) -> None:
        """``names`` gives each name with the second since 1970 in which it came; ``opener`` opens one of them."""
        self.names = names
        self._opener = opener
        self._limits = limits or Limits()
        self._most = most
        self._open: OrderedDict[str, Served] = OrderedDict()
        self._opening = asyncio.Lock()

    @property
    def open(self) -> list[Served]:
        """The open models."""
        return list(self._open.values())

    async def get(self, name: str) -> Served:
        """The model of that name. Raises :class:`ProblemError` (404) where there is none."""
        if (served := self._open.get(name)) is not None:
            self._open.move_to_end(name)
            return served
        if name not in await asyncio.to_thread(self.names):
            message = f"There is no model called {name!r} here; GET /v1/models lists those that there are."
            raise ProblemError(404, message, param="model", code="model_not_found")
        async with self._opening:
            if name not in self._open:
                await self._make_room()
                model = await asyncio.to_thread(self._opener, name)
                self._open[name] = Served(name, model, self._limits)
        return self._open[name]

    async def close(self, *, drain: bool) -> None:
        """End all schedulers."""
        closing = [asyncio.to_thread(served.scheduler.close, drain=drain) for served in self._open.values()]
        await asyncio.gather(*closing)
        self._open.clear()

    async def _make_room(self) -> None:
        idle = [name for name, served in self._open.items() if served.scheduler.load == (0, 0)]
        while len(self._open) >= self._most and idle:
            await asyncio.to_thread(self._open.pop(idle.pop(0)).scheduler.close, drain=True)
