"""The models that a server answers with, opened when they are first asked for.

Specialists that were tuned from one base share its weights and its scheduler: their requests run in one batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from empu.engine.language_model import LanguageModel, Verdict
from empu.engine.prompt import Prompt, encode_prompt
from empu.engine.scheduler import Limits, Scheduler
from empu.errors import PromptTooLongError
from empu.serving.errors import ProblemError
from empu.serving.grammars import Guides
from empu.text.base import Message
from empu.text.task import Task, encode_answer, encode_question, spoken

ALTERNATIVES = 20
"""Labels that are scored beside the best one, where they are asked for."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name's weights are: a model, and for a specialist the folder of the adapter beside it."""

    model: str
    """What the catalogue's opener opens."""
    adapter: Path | None = None
    called: str | None = None
    """What people call the model, where ``model`` is an id."""


class Post:
    """Carries updates from a scheduler's thread to the event loop, with one call for all that comes before its turn."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._letters: deque[tuple[asyncio.Queue[Any], Any]] = deque()
        self._called = False

    def send(self, queue: asyncio.Queue[Any], update: object) -> None:
        """Put ``update`` into ``queue``, from the scheduler's thread. Raises ``RuntimeError`` for a loop that ended."""
        self._letters.append((queue, update))
        if not self._called:
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._called = False
                raise

    def _deliver(self) -> None:
        self._called = False  # what is sent from here on calls again
        while self._letters:
            queue, update = self._letters.popleft()
            queue.put_nowait(update)


class Engine:
    """A model in memory and the scheduler through which everything runs that has its weights."""

    def __init__(self, place: Place, model: LanguageModel, limits: Limits) -> None:
        self.key = place.model
        self.name = place.called or place.model
        self.model = model
        self.scheduler = Scheduler(model.backend, model.text.tokenizer, model.context, limits)
        self.post = Post()
        self.scheduler.start()

    @cached_property
    def guides(self) -> Guides:
        """Made when a schema is first asked for, since it takes a second for a large vocabulary."""
        return Guides(self.model.text, self.model.config.vocab_size)


class Served:
    """One name that answers. Its methods that take long run in other threads."""

    def __init__(self, name: str, model: LanguageModel, engine: Engine, meaning: str | None = None) -> None:
        self.name = name
        self.meaning = meaning
        self.model = model
        self.engine = engine
        self.scheduler = engine.scheduler
        self._encoding = threading.Lock()

    @property
    def label_task(self) -> Task | None:
        """The task of a specialist that answers with labels."""
        task = self.model.task
        return task if task is not None and task.kind == "label" else None

    @property
    def guides(self) -> Guides:
        """What makes grammars for this vocabulary."""
        return self.engine.guides

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
    """Names and what answers to them; at most ``most`` models and ``most_specialists`` adapters are kept open, and the
    one unused for longest makes room.
    """

    def __init__(
        self,
        names: Callable[[], Mapping[str, int]],
        opener: Callable[[str], LanguageModel],
        limits: Limits | None = None,
        *,
        place: Callable[[str], Place] = Place,
        meaning: Callable[[str], str | None] = lambda name: None,
        most: int = 4,
        most_specialists: int = 64,
    ) -> None:
        """``names`` gives each name with the second since 1970 in which it came; ``place`` says where its weights are,
        and ``opener`` opens a model that a :class:`Place` names. When ``meaning`` of a name changes, it is opened anew.
        """
        self.names = names
        self._opener = opener
        self._place = place
        self._meaning = meaning
        self._limits = limits or Limits()
        self._most = most
        self._most_specialists = most_specialists
        self._served: OrderedDict[str, Served] = OrderedDict()
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._opening = asyncio.Lock()

    @property
    def engines(self) -> list[Engine]:
        """The models in memory."""
        return list(self._engines.values())

    async def get(self, name: str) -> Served:
        """What answers to that name. Raises :class:`ProblemError` (404) where there is nothing."""
        meaning = await asyncio.to_thread(self._meaning, name)
        if (served := self._served.get(name)) is not None and served.meaning == meaning:
            self._served.move_to_end(name)
            self._engines.move_to_end(served.engine.key)
            return served
        if name not in await asyncio.to_thread(self.names):
            message = f"There is no model called {name!r} here; GET /v1/models lists those that there are."
            raise ProblemError(404, message, param="model", code="model_not_found")
        async with self._opening:
            served = self._served.get(name)
            if served is None or served.meaning != meaning:
                self._served[name] = anew = await self._open(name, meaning)
                self._served.move_to_end(name)
                self._forget_specialists()
                if served is not None:
                    self._retire(served.engine)
                return anew
        return served

    async def close(self, *, drain: bool) -> None:
        """End all schedulers."""
        closing = [asyncio.to_thread(engine.scheduler.close, drain=drain) for engine in self._engines.values()]
        await asyncio.gather(*closing)
        self._engines.clear()
        self._served.clear()

    async def _open(self, name: str, meaning: str | None) -> Served:
        place = await asyncio.to_thread(self._place, name)
        if place.model not in self._engines:
            await self._make_room()
            model = await asyncio.to_thread(self._opener, place.model)
            self._engines[place.model] = Engine(place, model, self._limits)
        engine = self._engines[place.model]
        self._engines.move_to_end(place.model)
        if place.adapter is None:
            return Served(name, engine.model, engine, meaning)
        return Served(name, await asyncio.to_thread(engine.model.specialist, place.adapter), engine, meaning)

    async def _make_room(self) -> None:
        idle = [name for name, engine in self._engines.items() if engine.scheduler.load == (0, 0)]
        while len(self._engines) >= self._most and idle:
            engine = self._engines.pop(idle.pop(0))
            for name in [name for name, served in self._served.items() if served.engine is engine]:
                del self._served[name]
            await asyncio.to_thread(engine.scheduler.close, drain=True)

    def _retire(self, engine: Engine) -> None:
        """Close an engine that no name leads to any more, once its requests are answered."""
        if all(served.engine is not engine for served in self._served.values()) and engine.key in self._engines:
            del self._engines[engine.key]
            asyncio.get_running_loop().run_in_executor(None, partial(engine.scheduler.close, drain=True))

    def _forget_specialists(self) -> None:
        """Requests in progress hold on to theirs."""
        specialists = [name for name, served in self._served.items() if served.model is not served.engine.model]
        for name in specialists[: max(0, len(specialists) - self._most_specialists)]:
            del self._served[name]
