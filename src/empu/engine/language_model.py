"""A model that talks: a backend, a tokenizer, and one dialogue's cache that is kept between turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from empu.checkpoint import open_checkpoint
from empu.checkpoint.adapter import read_adapter
from empu.config import ModelConfig
from empu.engine.backends.protocol import Backend, Chunk, SequenceId, Want
from empu.engine.backends.registry import open_backend
from empu.engine.backends.storage import AS_IT_IS, Storage
from empu.engine.generation import AnswerState, Completion, Guide, Piece, Timings
from empu.engine.label_search import ChoiceTrie, choose
from empu.engine.prompt import Prompt, encode_prompt
from empu.engine.prompt_lookup import LONGEST, Drafts
from empu.engine.sampling import SamplingParams
from empu.errors import UsageError
from empu.text import load_text
from empu.text.base import Message, Text
from empu.text.task import Task, encode_answer, encode_question, plain_question, read_task, spoken

PREFILL_CHUNK = 256
"""Tokens that are read in one forward pass; between two passes an answer can be cancelled."""


def open_model(
    path: str | Path,
    *,
    adapter: Path | None = None,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    storage: Storage = AS_IT_IS,
) -> LanguageModel:
    """Open a GGUF file, a Hugging Face folder or a Meta folder for answering.

    ``engine`` is a name out of :data:`~empu.engine.backends.registry.ENGINES`; ``context`` limits the tokens of
    prompt and answer together. ``adapter`` is the folder of a specialist tuned from this model. Raises
    :class:`~empu.errors.EmpuError` when the files or the machine do not allow it.
    """
    begun = time.perf_counter()
    with open_checkpoint(path) as checkpoint:
        longest = checkpoint.config.context_length
        if context is not None and not 1 <= context <= longest:
            raise UsageError(f"A context of {context:,} tokens was asked for; this model has at most {longest:,}.")
        text = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata)
        backend = open_backend(checkpoint, engine=engine, threads=threads, context=context, storage=storage)
        model = LanguageModel(
            backend,
            text,
            checkpoint_path=checkpoint.path,
            context=context or longest,
            load_seconds=time.perf_counter() - begun,
            task=read_task(checkpoint.path),
        )
    return model if adapter is None else model.specialist(adapter)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A label and the (calibrated) probability that it is the right one."""

    label: str
    confidence: float


class LanguageModel:
    """Answers one prompt at a time; what two prompts in a row have in common is read once."""

    def __init__(
        self,
        backend: Backend,
        text: Text,
        *,
        checkpoint_path: Path,
        context: int,
        load_seconds: float = 0.0,
        task: Task | None = None,
    ) -> None:
        self.backend = backend
        self.text = text
        self.checkpoint_path = checkpoint_path
        self.context = context
        self.load_seconds = load_seconds
        self.task = task
        """What a specialist was tuned for; ``None`` for a general model."""
        self.speculates = backend.exact
        """Whether tokens are guessed ahead from the text itself, which changes nothing but the time."""
        self.guides: object | None = None
        """What ``guided.py`` keeps here between answers."""
        self._trie: ChoiceTrie | None = None
        self._sequence: SequenceId | None = None
        self._held: list[int] = []

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        return self.backend.config

    def specialist(self, adapter: Path) -> LanguageModel:
        """The specialist in the folder ``adapter``, tuned from this model, with which it shares weights and memory.

        Raises :class:`~empu.errors.EmpuError` when the files are damaged or made for another base.
        """
        begun = time.perf_counter()
        backend = self.backend.adapted(read_adapter(adapter, self.config))
        return LanguageModel(
            backend,
            self.text,
            checkpoint_path=self.checkpoint_path,
            context=self.context,
            load_seconds=self.load_seconds + time.perf_counter() - begun,
            task=read_task(adapter),
        )

    def worded(self, prompt: str | Sequence[Message]) -> str | Sequence[Message]:
        """Messages as they are, or as the text that a specialist of a base without a chat template was tuned on."""
        if self.task is None or self.text.template is not None or isinstance(prompt, str):
            return prompt
        return plain_question(prompt)

    def stream(
        self,
        prompt: str | Sequence[Message],
        params: SamplingParams | None = None,
        *,
        truncate: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        guide: Guide | None = None,
    ) -> Generation:
        """Begin an answer to a text (continued as it stands) or to messages (rendered by the chat template), within
        a grammar where there is a ``guide`` (``guided.py`` makes them; each serves one answer) or the task has a
        schema.

        Raises :class:`~empu.errors.PromptTooLongError` unless ``truncate`` allows cutting the oldest part.
        """
        params = params or SamplingParams()
        prompt = self.worded(prompt)
        if guide is None and self.task is not None and self.task.schema is not None:
            from empu.engine.structured_output import guides_of

            guide = guides_of(self).json_schema(self.task.schema)
        reserved = min(params.max_tokens or self.context, max(1, self.context // 4)) if truncate else 1
        encoded = encode_prompt(self.text, prompt, limit=self.context - reserved, truncate=truncate, tools=tools)
        return Generation(self, encoded, params, guide)

    def classify(self, prompts: Sequence[str], *, count: int = 1) -> Iterator[list[Verdict]]:
        """The ``count`` likeliest labels of each text, best first, by a specialist for labels.

        Raises :class:`~empu.errors.UsageError` for a model without labels.
        """
        task = self.task
        if task is None or task.kind != "label":
            raise UsageError("This model was not tuned for labels; ask it with `empu run`.")
        if self._trie is None:
            self._trie = ChoiceTrie([encode_answer(self.text, answer) for answer in spoken(task.labels)])
        questions = [encode_question(self.text, task.messages(prompt)) for prompt in prompts]
        for choices in choose(self.backend, questions, self._trie, count=min(count, len(task.labels))):
            yield [Verdict(task.labels[choice.index], task.confidence(choice.probability)) for choice in choices]

    def resume(self, ids: Sequence[int]) -> tuple[SequenceId, int]:
        """A sequence that holds a beginning of ``ids``, and how many of them; the rest is still to be read.

        At least one token is left, since logits come from reading.
        """
        if self._sequence is None:
            self._sequence = self.backend.allocate(self.context)
            self._held = []
        common = 0
        for ours, theirs in zip(self._held, ids[:-1], strict=False):
            if ours != theirs:
                break
            common += 1
        self.backend.truncate(self._sequence, common)
        del self._held[common:]
        return self._sequence, common

    def unread(self, count: int) -> None:
        """Forget the last ``count`` tokens of the sequence."""
        if count:
            assert self._sequence is not None
            del self._held[-count:]
            self.backend.truncate(self._sequence, len(self._held))

    def read(self, ids: Sequence[int], want: Want) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Append ``ids`` to the sequence; logits as :class:`Want` says."""
        assert self._sequence is not None
        (logits,) = self.backend.forward([Chunk(self._sequence, np.asarray(ids, dtype=np.int32), want)])
        self._held += ids
        return logits


class Generation:
    """One answer as it comes: iterate over its pieces, then read ``completion``. Not restartable."""

    def __init__(self, model: LanguageModel, prompt: Prompt, params: SamplingParams, guide: Guide | None) -> None:
        self._model = model
        self.prompt = prompt
        self._state = AnswerState(model.text.tokenizer, params, prompt.ids, model.context - len(prompt.ids), guide)
        self._cancelled = False
        self._begun = time.perf_counter()
        self._prefill_s = self._first_token_s = self._decode_s = 0.0
        self._cached = 0
        self._pieces = self._run()

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def cancel(self) -> None:
        """Stop after the current step. May be called from another thread or a signal handler."""
        self._cancelled = True

    @property
    def completion(self) -> Completion:
        """The whole answer; while it is not complete, it is run to its end."""
        for _ in self._pieces:
            pass
        state = self._state
        assert state.finish_reason is not None
        read, written = len(self.prompt.ids) - self._cached, max(0, len(state.tokens) - 1)
        return Completion(
            text=state.text,
            finish_reason=state.finish_reason,
            stop_string=state.stop_string,
            prompt_tokens=len(self.prompt.ids),
            completion_tokens=len(state.tokens),
            dropped_tokens=self.prompt.dropped,
            seed=state.sampler.seed,
            timings=Timings(
                load_s=self._model.load_seconds,
                prefill_s=self._prefill_s,
                first_token_s=self._first_token_s,
                decode_s=self._decode_s,
                prefill_tokens_per_s=_rate(read, self._prefill_s),
                decode_tokens_per_s=_rate(written, self._decode_s),
            ),
            logprobs=state.logprobs,
            cached_tokens=self._cached,
        )

    def _run(self) -> Iterator[Piece]:
        model, state = self._model, self._state
        begun = time.perf_counter()
        _, self._cached = model.resume(self.prompt.ids)
        piece = state.begin()
        if piece.tokens:
            yield piece
        rest = [*self.prompt.ids[self._cached :], *piece.tokens]
        logits = None
        for start in range(0, len(rest), PREFILL_CHUNK):
            if self._cancelled or state.finish_reason is not None:
                yield state.cancel()
                return
            part = rest[start : start + PREFILL_CHUNK]
            logits = model.read(part, Want.LAST if start + len(part) == len(rest) else Want.NONE)
        assert logits is not None
        self._prefill_s = time.perf_counter() - begun
        piece = state.take(logits[-1])
        self._first_token_s = time.perf_counter() - self._begun
        yield piece
        drafts = Drafts(self.prompt.ids) if model.speculates else None
        if drafts is not None:
            drafts.add(state.tokens)
        while state.finish_reason is None:
            if self._cancelled:
                yield state.cancel()
                return
            step = time.perf_counter()
            pieces = self._step(piece, drafts)
            self._decode_s += time.perf_counter() - step
            yield from pieces
            piece = pieces[-1]

    def _step(self, last: Piece, drafts: Drafts | None) -> list[Piece]:
        """Read what the last piece added and a guess at what follows; the pieces that came of it, at least one."""
        model, state = self._model, self._state
        room = model.context - len(self.prompt.ids) - len(state.tokens)
        guess = drafts.guess(min(room, LONGEST)) if drafts is not None else []
        logits = model.read([*last.tokens, *guess], Want.ALL if guess else Want.LAST)
        pieces = [state.take(logits[-1 - len(guess)])]
        for i, token in enumerate(guess):
            if pieces[-1].tokens != (token,) or state.finish_reason is not None:
                break
            pieces.append(state.take(logits[i - len(guess)]))
        if drafts is not None:
            for piece in pieces:
                drafts.add(piece.tokens)
            if guess:
                drafts.judge(len(guess), len(pieces) - 1)
        model.unread(len(guess) - (len(pieces) - 1))
        return pieces


def _rate(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if tokens and seconds > 0 else None
