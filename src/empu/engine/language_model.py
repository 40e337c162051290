"""A language model: a backend with its tokenizer, and the KV cache of one conversation."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from empu.checkpoint import open_checkpoint
from empu.checkpoint.lora_adapter import read_adapter
from empu.config import ModelConfig
from empu.engine.backends.options import DEFAULT_OPTIONS, BackendOptions
from empu.engine.backends.protocol import Backend, Chunk, LogitsNeeded, SequenceId
from empu.engine.backends.registry import open_backend
from empu.engine.generation import GenerationState, TokenConstraint
from empu.engine.label_search import LabelTrie, label_distributions, search_labels
from empu.engine.outputs import Completion, TextDelta
from empu.engine.prefix_cache import reusable_length
from empu.engine.prompt import EncodedPrompt, prepare_prompt
from empu.engine.prompt_lookup import MAX_DRAFT_TOKENS, PromptLookup
from empu.engine.sampling import SamplingParams
from empu.errors import UsageError
from empu.text import load_text_processor
from empu.text.base import Message, TextProcessor
from empu.text.prompt_encoding import encode_answer, encode_prompt, plain_prompt, readable_labels
from empu.text.task import Task, read_task

if TYPE_CHECKING:
    from empu.engine.structured_output import GrammarCompiler

PREFILL_CHUNK_SIZE = 256
"""Tokens of one prefill step. A generation can be cancelled between two steps."""


def open_model(
    path: str | Path,
    *,
    adapter: Path | None = None,
    engine: str = "auto",
    threads: int | None = None,
    context_length: int | None = None,
    options: BackendOptions = DEFAULT_OPTIONS,
) -> LanguageModel:
    """Open a GGUF file, a Hugging Face folder or a Meta folder for inference.

    ``engine`` is a name of :data:`~empu.engine.backends.registry.ENGINES`. ``context_length`` limits the tokens of
    prompt and answer together. ``adapter`` is the folder of a specialist tuned from this model. Raises
    :class:`~empu.errors.EmpuError` when the files are unusable or the machine lacks memory.
    """
    started_at = time.perf_counter()
    with open_checkpoint(path) as checkpoint:
        max_length = checkpoint.config.context_length
        if context_length is not None and not 1 <= context_length <= max_length:
            raise UsageError(f"The context is {context_length:,} tokens; this model allows 1 to {max_length:,}.")
        text = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata)
        backend = open_backend(
            checkpoint, engine=engine, threads=threads, context_length=context_length, options=options
        )
        model = LanguageModel(
            backend,
            text,
            checkpoint_path=checkpoint.path,
            context_length=context_length or max_length,
            load_seconds=time.perf_counter() - started_at,
            task=read_task(checkpoint.path),
        )
    return model if adapter is None else model.with_adapter(adapter)


@dataclass(frozen=True, slots=True)
class LabelPrediction:
    """A label and the calibrated probability that it is right."""

    label: str
    confidence: float


class LanguageModel:
    """Generates for one prompt at a time. The common prefix of two prompts in a row is computed once."""

    def __init__(
        self,
        backend: Backend,
        text: TextProcessor,
        *,
        checkpoint_path: Path,
        context_length: int,
        load_seconds: float = 0.0,
        task: Task | None = None,
    ) -> None:
        self.backend = backend
        self.text = text
        self.checkpoint_path = checkpoint_path
        self.context_length = context_length
        self.load_seconds = load_seconds
        self.task = task
        """What a specialist was tuned for; ``None`` for a general model."""
        self.uses_prompt_lookup = backend.batch_invariant
        """Whether drafts are proposed. They change the speed, but not the output."""
        self._label_trie: LabelTrie | None = None
        self._sequence: SequenceId | None = None
        self._cached_ids: list[int] = []

    @property
    def config(self) -> ModelConfig:
        """Sizes of the model."""
        return self.backend.config

    @cached_property
    def grammar_compiler(self) -> GrammarCompiler:
        """Compiles schemas for this vocabulary. Built at the first use: a large vocabulary takes a second."""
        from empu.engine.structured_output import GrammarCompiler

        return GrammarCompiler(self.text, self.config.vocab_size)

    def with_adapter(self, folder: Path) -> LanguageModel:
        """Return the specialist in ``folder``, tuned from this model. It shares this model's weights and memory.

        Raises :class:`~empu.errors.EmpuError` when the files are damaged or made for another base.
        """
        started_at = time.perf_counter()
        backend = self.backend.with_adapter(read_adapter(folder, self.config))
        return LanguageModel(
            backend,
            self.text,
            checkpoint_path=self.checkpoint_path,
            context_length=self.context_length,
            load_seconds=self.load_seconds + time.perf_counter() - started_at,
            task=read_task(folder),
        )

    def format_prompt(self, prompt: str | Sequence[Message]) -> str | Sequence[Message]:
        """Return messages as plain text where the model is a specialist of a base without a chat template.

        It was tuned on such texts. Every other prompt is returned as it is.
        """
        if self.task is None or self.text.template is not None or isinstance(prompt, str):
            return prompt
        return plain_prompt(prompt)

    def stream(
        self,
        prompt: str | Sequence[Message],
        params: SamplingParams | None = None,
        *,
        truncate: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        constraint: TokenConstraint | None = None,
    ) -> Generation:
        """Start a generation. A text is continued as it is; messages are rendered by the chat template.

        ``constraint`` comes from :attr:`grammar_compiler` and serves one generation. A task with a schema has its own.
        Raises :class:`~empu.errors.PromptTooLongError`, unless ``truncate`` allows to cut the oldest part.
        """
        params = params or SamplingParams()
        prompt = self.format_prompt(prompt)
        if constraint is None and self.task is not None and self.task.schema is not None:
            constraint = self.grammar_compiler.compile_json_schema(self.task.schema)
        context = self.context_length
        reserved = min(params.max_tokens or context, max(1, context // 4)) if truncate else 1
        encoded = prepare_prompt(self.text, prompt, limit=context - reserved, truncate=truncate, tools=tools)
        return Generation(self, encoded, params, constraint)

    def generate_json(
        self, prompt: str | Sequence[Message], schema: Mapping[str, Any], params: SamplingParams | None = None
    ) -> tuple[Any, Completion]:
        """Return a JSON value that follows ``schema``, and its completion.

        Raises :class:`~empu.engine.structured_output.GrammarError` for a schema that cannot be used, and when
        ``max_tokens`` ended the output too early.
        """
        from empu.engine.structured_output import GrammarError

        constraint = self.grammar_compiler.compile_json_schema(schema)
        completion = self.stream(prompt, params, constraint=constraint).completion
        try:
            return json.loads(completion.text), completion
        except ValueError:
            raise GrammarError(
                f"the output was not complete after {completion.completion_tokens} tokens; allow more of them"
            ) from None

    def classify(self, texts: Sequence[str], *, count: int = 1) -> Iterator[list[LabelPrediction]]:
        """Yield the ``count`` most likely labels of each text, best first.

        Raises :class:`~empu.errors.UsageError` for a model that was not tuned for labels.
        """
        task, trie = self._label_task()
        prompts = [encode_prompt(self.text, task.messages(text)) for text in texts]
        for results in search_labels(self.backend, prompts, trie, count=min(count, len(task.labels))):
            yield [LabelPrediction(task.labels[label.index], task.confidence(label.probability)) for label in results]

    def label_distributions(self, texts: Sequence[str]) -> Iterator[npt.NDArray[np.float64]]:
        """Yield the probability of each label of the task, in its order, for each text. They are not calibrated.

        Raises :class:`~empu.errors.UsageError` for a model that was not tuned for labels.
        """
        task, trie = self._label_task()
        prompts = [encode_prompt(self.text, task.messages(text)) for text in texts]
        yield from label_distributions(self.backend, prompts, trie)

    def _label_task(self) -> tuple[Task, LabelTrie]:
        if self.task is None or self.task.kind != "label":
            raise UsageError("This model was not tuned for labels; ask it with `empu run`.")
        if self._label_trie is None:
            labels = readable_labels(self.task.labels)
            self._label_trie = LabelTrie([encode_answer(self.text, label) for label in labels])
        return self.task, self._label_trie

    def reuse_prefix(self, ids: Sequence[int]) -> int:
        """Cut the model's sequence to its common prefix with ``ids``, and return that prefix's length.

        It is less than ``len(ids)``, since at least one token has to be computed for its logits.
        """
        if self._sequence is None:
            self._sequence = self.backend.allocate(self.context_length)
            self._cached_ids = []
        length = reusable_length(self._cached_ids, ids)
        self.backend.truncate(self._sequence, length)
        del self._cached_ids[length:]
        return length

    def forward(self, ids: Sequence[int], logits_needed: LogitsNeeded) -> npt.NDArray[np.float32]:
        """Append ``ids`` to the model's sequence and return the logits that are needed."""
        assert self._sequence is not None
        (logits,) = self.backend.forward([Chunk(self._sequence, np.asarray(ids, dtype=np.int32), logits_needed)])
        self._cached_ids += ids
        return logits

    def drop_last(self, count: int) -> None:
        """Remove the last ``count`` tokens from the model's sequence."""
        if count:
            assert self._sequence is not None
            del self._cached_ids[-count:]
            self.backend.truncate(self._sequence, len(self._cached_ids))


class Generation:
    """A running generation: iterate over its text deltas, then read ``completion``. It cannot be restarted."""

    def __init__(
        self,
        model: LanguageModel,
        prompt: EncodedPrompt,
        params: SamplingParams,
        constraint: TokenConstraint | None,
    ) -> None:
        self._model = model
        self.prompt = prompt
        max_new_tokens = model.context_length - len(prompt.ids)
        self._state = GenerationState(model.text.tokenizer, params, prompt.ids, max_new_tokens, constraint)
        self._is_cancelled = False
        self._started_at = time.perf_counter()
        self._prefill_s = self._first_token_s = self._decode_s = 0.0
        self._cached_tokens = 0
        self._deltas = self._generate()

    def __iter__(self) -> Iterator[TextDelta]:
        return self._deltas

    def cancel(self) -> None:
        """Stop after the current step. May be called from another thread or a signal handler."""
        self._is_cancelled = True

    @property
    def completion(self) -> Completion:
        """The completion. Runs the generation to its end first."""
        for _ in self._deltas:
            pass
        return self._state.completion(
            self.prompt,
            cached_tokens=self._cached_tokens,
            load_s=self._model.load_seconds,
            prefill_s=self._prefill_s,
            first_token_s=self._first_token_s,
            decode_s=self._decode_s,
        )

    def _generate(self) -> Iterator[TextDelta]:
        model, state = self._model, self._state
        started_at = time.perf_counter()
        self._cached_tokens = model.reuse_prefix(self.prompt.ids)
        delta = state.begin()
        if delta.tokens:
            yield delta
        remaining = [*self.prompt.ids[self._cached_tokens :], *delta.tokens]
        logits = None
        for start in range(0, len(remaining), PREFILL_CHUNK_SIZE):
            if self._is_cancelled or state.finish_reason is not None:
                yield state.cancel()
                return
            chunk = remaining[start : start + PREFILL_CHUNK_SIZE]
            is_last = start + len(chunk) == len(remaining)
            logits = model.forward(chunk, LogitsNeeded.LAST if is_last else LogitsNeeded.NONE)
        assert logits is not None
        self._prefill_s = time.perf_counter() - started_at
        delta = state.sample(logits[-1])
        self._first_token_s = time.perf_counter() - self._started_at
        yield delta
        prompt_lookup = PromptLookup(self.prompt.ids) if model.uses_prompt_lookup else None
        if prompt_lookup is not None:
            prompt_lookup.extend(state.tokens)
        while state.finish_reason is None:
            if self._is_cancelled:
                yield state.cancel()
                return
            step_started_at = time.perf_counter()
            deltas = self._decode_step(delta, prompt_lookup)
            self._decode_s += time.perf_counter() - step_started_at
            yield from deltas
            delta = deltas[-1]

    def _decode_step(self, last: TextDelta, prompt_lookup: PromptLookup | None) -> list[TextDelta]:
        """Compute the tokens of the last delta and a draft of what follows. Return at least one delta."""
        model, state = self._model, self._state
        room = model.context_length - len(self.prompt.ids) - len(state.tokens)
        draft = prompt_lookup.propose(min(room, MAX_DRAFT_TOKENS)) if prompt_lookup is not None else []
        logits = model.forward([*last.tokens, *draft], LogitsNeeded.ALL if draft else LogitsNeeded.LAST)
        deltas = [state.sample(logits[-1 - len(draft)])]
        for i, token in enumerate(draft):
            if deltas[-1].tokens != (token,) or state.finish_reason is not None:
                break
            deltas.append(state.sample(logits[i - len(draft)]))
        num_accepted = len(deltas) - 1
        if prompt_lookup is not None:
            for delta in deltas:
                prompt_lookup.extend(delta.tokens)
            if draft:
                prompt_lookup.record_result(len(draft), num_accepted)
        model.drop_last(len(draft) - num_accepted)
        return deltas
