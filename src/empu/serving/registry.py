"""Models of a server, opened on first use.

Specialists of one base model share its weights and its scheduler: their requests run in one batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from empu.engine.language_model import LabelPrediction, LanguageModel
from empu.engine.prompt import EncodedPrompt, prepare_prompt
from empu.engine.scheduler import Scheduler, SchedulerConfig
from empu.engine.structured_output import GrammarCompiler
from empu.errors import PromptTooLongError
from empu.members.classifier import LabelClassifier
from empu.serving.errors import RequestError
from empu.serving.event_loop import EventLoopBridge
from empu.serving.prompt_limit import PromptFarTooLongError, check_prompt_length
from empu.text.base import Message
from empu.text.prompt_encoding import encode_answer, encode_prompt, readable_labels
from empu.text.task import Task

MAX_TOP_LABELS = 20
"""Labels with a probability, if a request asks for them."""


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """Where the weights behind a name are."""

    model: str
    """What the registry's ``open_model`` opens: a path or an id."""
    adapter: Path | None = None
    """Folder of a specialist's adapter."""
    display_name: str | None = None
    """Name to show for ``model``, if that is an id."""


class Engine:
    """A model in memory, with the scheduler that runs it and all its specialists."""

    def __init__(self, location: ModelLocation, model: LanguageModel, scheduler_config: SchedulerConfig) -> None:
        self.key = location.model
        self.name = location.display_name or location.model
        self.model = model
        self.scheduler = Scheduler(model.backend, model.text.tokenizer, model.context_length, scheduler_config)
        self.bridge = EventLoopBridge()
        self.scheduler.start()


class ServedModel:
    """A model or specialist under one name. Its slow methods run in other threads."""

    def __init__(
        self,
        name: str,
        model: LanguageModel,
        engine: Engine,
        revision: str | None = None,
        classifier: LabelClassifier | None = None,
    ) -> None:
        """``revision`` changes when the name is given to other weights. ``classifier``: of a label specialist."""
        self.name = name
        self.revision = revision
        self.model = model
        self.engine = engine
        self.scheduler = engine.scheduler
        self.classifier = classifier
        self._encoding_lock = threading.Lock()

    @property
    def label_task(self) -> Task | None:
        """The task, if this is a label specialist."""
        task = self.model.task
        return task if task is not None and task.kind == "label" else None

    @property
    def grammar_compiler(self) -> GrammarCompiler:
        """Compiles grammars for this vocabulary."""
        return self.engine.model.grammar_compiler

    async def encode(
        self, prompt: str | Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> EncodedPrompt:
        """Return the token ids of a prompt. Raises :class:`PromptTooLongError` with both numbers."""

        limit = self.model.context_length - 1

        def encode() -> EncodedPrompt:
            with self._encoding_lock:
                check_prompt_length(self.model.text.tokenizer, prompt, tools, limit)
                return prepare_prompt(self.model.text, prompt, limit=limit, tools=tools)

        try:
            return await asyncio.to_thread(encode)
        except PromptFarTooLongError:
            raise
        except PromptTooLongError as error:
            raise PromptTooLongError(error.prompt_tokens, error.limit, "shorten it") from None

    async def extend(self, prompt: EncodedPrompt, text: str) -> EncodedPrompt:
        """Return the prompt with ``text`` after it. Raises :class:`PromptTooLongError`."""
        ids = [*prompt.ids, *await asyncio.to_thread(self.model.text.tokenizer.encode, text)]
        if len(ids) >= self.model.context_length:
            raise PromptTooLongError(len(ids), self.model.context_length - 1, "shorten it")
        return EncodedPrompt(ids, prompt.dropped_tokens)

    async def classify(self, text: str, count: int) -> tuple[list[LabelPrediction], int, int]:
        """Return the ``count`` most likely labels of a text, and the tokens of prompt and answer."""
        task, classifier = self.label_task, self.classifier
        assert task is not None
        assert classifier is not None

        def classify() -> tuple[list[LabelPrediction], int, int]:
            ranked = next(classifier.classify([text], count=count))
            answer = readable_labels(task.labels)[task.labels.index(ranked[0].label)]
            prompt_ids = encode_prompt(self.model.text, task.messages(text))
            return ranked, len(prompt_ids), len(encode_answer(self.model.text, answer))

        try:
            return await asyncio.wrap_future(self.scheduler.run_between_steps(classify))
        except PromptTooLongError as error:
            raise PromptTooLongError(error.prompt_tokens, error.limit, "shorten it") from None


class ModelRegistry:
    """Names and the models behind them.

    At most ``max_models`` models and ``max_specialists`` adapters stay open; the least recently used are closed.
    """

    def __init__(
        self,
        names: Callable[[], Mapping[str, int]],
        open_model: Callable[[str], LanguageModel],
        scheduler_config: SchedulerConfig | None = None,
        *,
        locate: Callable[[str], ModelLocation] = ModelLocation,
        revision: Callable[[str], str | None] = lambda name: None,
        open_classifier: Callable[[LanguageModel, Path], LabelClassifier] = lambda model, folder: LabelClassifier(
            model
        ),
        stored_context_length: Callable[[str], int | None] = lambda name: None,
        max_models: int = 4,
        max_specialists: int = 64,
    ) -> None:
        """``stored_context_length`` returns that of a name without opening it.

        ``names`` returns each name with the Unix time at which it was added.

        ``locate`` finds the weights of a name; ``open_model`` opens ``ModelLocation.model``. A name is opened again
        when its ``revision`` changes. ``open_classifier`` opens a label specialist: its language model, and the folder
        of its files.
        """
        self.names = names
        self._open_model = open_model
        self._locate = locate
        self._revision = revision
        self._open_classifier = open_classifier
        self._scheduler_config = scheduler_config or SchedulerConfig()
        self._stored_context_length = stored_context_length
        self._max_models = max_models
        self._max_specialists = max_specialists
        self._served: OrderedDict[str, ServedModel] = OrderedDict()
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._open_lock = asyncio.Lock()

    @property
    def engines(self) -> list[Engine]:
        """The models in memory."""
        return list(self._engines.values())

    async def get(self, name: str) -> ServedModel:
        """Return the model of that name. Raises :class:`RequestError` (404) for an unknown name."""
        revision = await asyncio.to_thread(self._revision, name)
        self.drop_failed()
        if (served := self._served.get(name)) is not None and served.revision == revision:
            self._served.move_to_end(name)
            self._engines.move_to_end(served.engine.key)
            return served
        if name not in await asyncio.to_thread(self.names):
            message = f"There is no model {name!r}; GET /v1/models lists the models."
            raise RequestError(404, message, param="model", code="model_not_found")
        async with self._open_lock:
            self.drop_failed()
            served = self._served.get(name)
            if served is None or served.revision != revision:
                self._served[name] = reopened = await self._open(name, revision)
                self._served.move_to_end(name)
                self._evict_specialists()
                if served is not None:
                    self._close_if_unused(served.engine)
                return reopened
        return served

    def context_length(self, name: str) -> int | None:
        """Return how many tokens a prompt and its answer may have together; ``None`` if only opening it would tell."""
        served = self._served.get(name)
        return served.model.context_length if served is not None else self._stored_context_length(name)

    def drop_failed(self) -> None:
        """Forget engines that failed, so that their models are opened again by the next request."""
        for key, engine in list(self._engines.items()):
            if engine.scheduler.failure is not None:
                del self._engines[key]
                for name in [name for name, served in self._served.items() if served.engine is engine]:
                    del self._served[name]

    async def close(self, *, drain: bool) -> None:
        """Close all schedulers."""
        closing = [asyncio.to_thread(engine.scheduler.close, drain=drain) for engine in self._engines.values()]
        await asyncio.gather(*closing)
        self._engines.clear()
        self._served.clear()

    async def _open(self, name: str, revision: str | None) -> ServedModel:
        location = await asyncio.to_thread(self._locate, name)
        if location.model not in self._engines:
            await self._evict_models()
            model = await asyncio.to_thread(self._open_model, location.model)
            self._engines[location.model] = Engine(location, model, self._scheduler_config)
        engine = self._engines[location.model]
        self._engines.move_to_end(location.model)
        model, classifier = engine.model, None
        if location.adapter is not None:
            model = await asyncio.to_thread(engine.model.with_adapter, location.adapter)
        if model.task is not None and model.task.kind == "label":
            folder = location.adapter or model.checkpoint_path
            classifier = await asyncio.to_thread(self._open_classifier, model, folder)
        return ServedModel(name, model, engine, revision, classifier)

    async def _evict_models(self) -> None:
        idle = [name for name, engine in self._engines.items() if engine.scheduler.load == (0, 0)]
        while len(self._engines) >= self._max_models and idle:
            engine = self._engines.pop(idle.pop(0))
            for name in [name for name, served in self._served.items() if served.engine is engine]:
                del self._served[name]
            await asyncio.to_thread(engine.scheduler.close, drain=True)

    def _close_if_unused(self, engine: Engine) -> None:
        """Close an engine that no name uses any more, once its requests are answered."""
        if all(served.engine is not engine for served in self._served.values()) and engine.key in self._engines:
            del self._engines[engine.key]
            asyncio.get_running_loop().run_in_executor(None, partial(engine.scheduler.close, drain=True))

    def _evict_specialists(self) -> None:
        """Drop the least recently used specialists; requests in progress keep theirs."""
        specialists = [name for name, served in self._served.items() if served.model is not served.engine.model]
        for name in specialists[: max(0, len(specialists) - self._max_specialists)]:
            del self._served[name]
