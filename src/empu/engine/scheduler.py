"""Many answers at once from one backend: continuous batching in a thread of its own.

Every step is one forward pass. Each answer in progress gets its next token first; what is left of the step's budget
reads prompts, in the order in which they came. Knows token ids, not texts or HTTP.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from empu.engine.backends.protocol import Backend, Chunk, Want
from empu.engine.generation import AnswerState, Guide, Piece
from empu.engine.prefix_cache import Prefixes, shared
from empu.engine.prompt import Prompt
from empu.engine.prompt_lookup import LONGEST, Drafts
from empu.engine.request import Job, Update
from empu.engine.sampling import SamplingParams
from empu.errors import BusyError, EmpuError, NoRoomError, PromptTooLongError, UsageError
from empu.text.base import Tokenizer

log = logging.getLogger("empu.engine")

T = TypeVar("T")
WORTH_SHARING = 16
"""A prompt waits for another one that is being read when at least this many more of its tokens come from there."""
FEW = 4
"""Answers in progress up to which their next tokens are guessed; with more of them a step has work enough."""
CROWD = 8
"""Answers in progress up to which each step's tokens are told at once; with more, only every ``TELL_S`` seconds, since
telling takes its time from the same processors. First tokens never wait.
"""
TELL_S = 0.05
"""Words come in twenty times a second, which still reads as writing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``slots`` answers at once, ``queue`` more that wait, ``step_tokens`` in one forward pass, and ``prefixes``
    finished dialogues whose beginnings are kept.
    """

    slots: int = 16
    queue: int = 64
    step_tokens: int = 256
    prefixes: int = 4

    def __post_init__(self) -> None:
        if not (self.slots >= 1 and self.queue >= 0 and self.prefixes >= 0 and self.step_tokens > self.slots):
            raise UsageError(
                f"{self} cannot be kept; give at least one slot, and more tokens in a step than there are slots."
            )


@dataclass(slots=True)
class Counts:
    """Since the start; read by ``/metrics``."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    stop: int = 0
    length: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0


class Scheduler:
    """Owns a backend: from :meth:`start` to :meth:`close` only its thread may use it."""

    def __init__(self, backend: Backend, tokenizer: Tokenizer, context: int, limits: Limits | None = None) -> None:
        """``context`` is how many tokens a prompt and its answer may have together."""
        self.limits = limits or Limits()
        self.counts = Counts()
        self._backend = backend
        self._tokenizer = tokenizer
        self._context = context
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._running: list[Job] = []
        self._open: dict[Job, None] = {}
        """Those whose last update is still to be written."""
        self._letters: list[tuple[Job, Update]] = []
        """What the step in progress gave. It is delivered at once, so that readers take their turn while the next step
        computes and not between two choices of this one.
        """
        self._told = 0.0
        """When everything was told."""
        self._prefixes = Prefixes(backend, self.limits.prefixes)
        self._closing = self._abandon = False
        self.failure: EmpuError | None = None
        """Why nothing is answered any more: a mistake in the thread left the backend in a state that nobody knows."""
        self._thread = threading.Thread(target=self._work, name="empu-scheduler", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self, *, drain: bool = False, timeout_s: float | None = None) -> None:
        """Take nothing more; finish what there is with ``drain``, otherwise cancel it. Waits for the thread."""
        with self._changed:
            self._closing = True
            self._abandon = self._abandon or not drain
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def load(self) -> tuple[int, int]:
        """Answers in progress, and requests that wait."""
        return len(self._running), len(self._waiting) + len(self._calls)

    def submit(
        self,
        prompt: Prompt,
        params: SamplingParams,
        deliver: Callable[[Update], None],
        guide: Guide | None = None,
        *,
        model: Backend | None = None,
    ) -> Job:
        """Queue a request, from any thread; ``model`` is a view of the backend with an adapter.

        Raises :class:`BusyError` when the queue is full, :class:`PromptTooLongError` when no token would fit,
        :attr:`failure` where there is one, and :class:`EmpuError` once it is being closed.
        """
        room = self._context - len(prompt.ids)
        if room < 1:
            raise PromptTooLongError(len(prompt.ids), self._context - 1, "shorten it")
        if (token := max(prompt.ids)) >= (size := self._backend.config.vocab_size):
            raise UsageError(
                f"The text holds token {token:,} of the tokenizer, and the model knows {size:,}; leave it out, or open "
                "the model with its own tokenizer."
            )
        state = AnswerState(self._tokenizer, params, prompt.ids, room, guide)
        capacity = len(prompt.ids) + min(room, params.max_tokens or room)
        job = Job(model or self._backend, prompt, state, capacity, deliver, self._wake)
        with self._changed:
            self._check_room()
            self._waiting.append(job)
            self._open[job] = None
            self._changed.notify()
        return job

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Queue a piece of work that uses the backend by itself, between two steps. Raises :class:`BusyError`."""
        future: Future[T] = Future()
        with self._changed:
            self._check_room()
            self._calls.append((future, work))
            self._changed.notify()
        return future

    def _check_room(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._closing:
            raise EmpuError("The model is being closed, to make room or with its server; ask again in a moment.")
        free = self.limits.slots - len(self._running)
        if len(self._waiting) + len(self._calls) >= self.limits.queue + max(0, free):
            self.counts.refused += 1
            raise BusyError(len(self._waiting) + len(self._calls))

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    # In the thread

    def _work(self) -> None:
        try:
            while self._admit():
                self._call()
                self._step()
                self._deliver()
            self._prefixes.clear()
        except Exception as error:
            log.exception("the scheduler failed; all that runs or waits is refused")
            self._break(error)

    def _break(self, error: Exception) -> None:
        """Refuse everything, now and later."""
        with self._changed:
            self.failure = EmpuError(
                f"The engine failed ({type(error).__name__}) and answers no more; look at the log and start it again."
            )
            jobs, calls = list(self._open), list(self._calls)
            self._running, self._waiting = [], deque()
            self._open.clear()
            self._calls.clear()
        self.counts.failed += len(jobs)
        for job, update in self._letters:
            job.tell(update)
        for job in jobs:
            job.tell(self.failure)
        for future, _ in calls:
            if future.set_running_or_notify_cancel():
                future.set_exception(self.failure)

    def _admit(self) -> bool:
        """Wait for work and let requests in; ``False`` at the end."""
        with self._changed:
            while not (self._waiting or self._running or self._calls or self._closing):
                self._changed.wait()
            if self._abandon:
                for job in (*self._waiting, *self._running):
                    job.cancelled = True
                for future, _ in self._calls:
                    future.cancel()
                self._calls.clear()
            gone = [job for job in (*self._running, *self._waiting) if job.cancelled]
            self._running = [job for job in self._running if not job.cancelled]
            self._waiting = deque(job for job in self._waiting if not job.cancelled)
            while self._waiting and len(self._running) < self.limits.slots:
                self._running.append(self._waiting.popleft())
            finished = self._closing and not (self._running or self._calls)
        for job in gone:
            job.state.cancel()
            self._finish(job)
        self._deliver()
        return not finished

    def _deliver(self) -> None:
        letters, self._letters = self._letters, []
        now = time.perf_counter()
        may_wait = len(self._running) > CROWD and now - self._told < TELL_S
        if not may_wait:
            self._told = now
        for job, update in letters:
            job.tell(update, may_wait=may_wait)

    def _call(self) -> None:
        with self._changed:
            if not self._calls:
                return
            future, work = self._calls.popleft()
        if not future.set_running_or_notify_cancel():
            return
        while True:
            try:
                result = work()
            except NoRoomError as error:  # what is only kept goes first
                if self._prefixes.forget_oldest():
                    continue
                future.set_exception(error)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            return

    def _step(self) -> None:
        plan = self._plan()
        if not plan:
            return
        try:
            logits = self._backend.forward([chunk for _, chunk in plan])
        except NoRoomError as error:  # what is only kept goes first, then the youngest request
            if not self._prefixes.forget_oldest():
                self._fail(plan[-1][0], error)
            return
        except Exception as error:
            for job, _ in plan:
                self._fail(job, error)
            return
        self.counts.steps += 1
        for (job, chunk), rows in zip(plan, logits, strict=True):
            job.read += len(chunk.tokens) - len(job.guess)
            if len(rows):
                self._take(job, rows[-1 - len(job.guess) :])

    def _plan(self) -> list[tuple[Job, Chunk]]:
        """The chunks of one step: what each answer in progress added last, then prompts in order of arrival."""
        writing = [job for job in self._running if not job.is_reading]
        for job in writing:
            job.guess = self._guess(job, len(writing))
        plan = [(job, self._chunk(job, len(job.ids))) for job in writing]
        budget = self.limits.step_tokens - sum(len(chunk.tokens) for _, chunk in plan)
        running = list(self._running)
        full = False
        for place, job in enumerate(running):
            if budget <= 0:
                break
            if not job.is_reading or (full and job.sequence is None):
                continue
            if job.sequence is None:
                try:
                    if not self._begin(job, running[:place]):
                        continue
                except NoRoomError as error:  # those behind it wait too: none of them may take what it waits for
                    if any(other.sequence is not None for other in self._running):
                        full = True
                    else:
                        self._fail(job, error)
                    continue
                except EmpuError as error:
                    self._fail(job, error)
                    continue
            chunk = self._chunk(job, budget)
            budget -= len(chunk.tokens)
            plan.append((job, chunk))
        return plan

    def _chunk(self, job: Job, most: int) -> Chunk:
        assert job.sequence is not None
        tokens = job.ids[job.read : job.read + most]
        want = Want.LAST if job.read + len(tokens) == len(job.ids) else Want.NONE
        if job.guess:
            tokens, want = tokens + job.guess, Want.ALL
        return Chunk(job.sequence, np.asarray(tokens, dtype=np.int32), want)

    def _guess(self, job: Job, writing: int) -> list[int]:
        if not self._backend.exact or writing > FEW:
            return []
        if job.drafts is None:
            job.drafts = Drafts(job.ids)
        fair = self.limits.step_tokens // writing - (len(job.ids) - job.read)
        return job.drafts.guess(min(LONGEST, fair, job.capacity - len(job.ids)))

    def _begin(self, job: Job, earlier: list[Job]) -> bool:
        """Give the job a sequence that holds as much of its prompt as any other does. ``False``: not in this step.

        Raises :class:`NoRoomError`.
        """
        source, length = self._prefixes.best(job.model, job.ids) or (None, 0)
        for other in earlier:
            if other.model is not job.model:
                continue
            common = shared(other.ids, job.ids)
            if other.is_reading and other.read < common and common >= length + WORTH_SHARING:
                return False
            if other.sequence is not None and min(common, other.read) > length:
                source, length = other.sequence, min(common, other.read)
        try:
            if source is None:
                job.sequence = job.model.allocate(job.capacity)
            else:
                job.sequence = job.model.fork(source, length, job.capacity)
        except NoRoomError:
            if not self._prefixes.forget_oldest():
                raise
            return self._begin(job, earlier)
        job.read = job.cached = length
        job.begun = time.perf_counter()
        self.counts.prompt_tokens += len(job.prompt.ids)
        self.counts.cached_tokens += length
        self._tell(job, job.state.begin)
        return job.sequence is not None

    def _take(self, job: Job, logits: npt.NDArray[np.float32]) -> None:
        """``logits``: behind the last of the job's tokens, and behind each token of its guess."""
        if job.first is None:
            job.first = time.perf_counter()
        guess, job.guess = job.guess, []
        begun = len(job.ids)
        for i, row in enumerate(logits):
            job.read = begun + i
            self._tell(job, partial(job.state.take, row))
            if job.sequence is None or job.ids[begun + i :] != guess[i : i + 1]:
                break
        if job.drafts is not None:
            job.drafts.add(job.ids[begun:])
            if guess:
                job.drafts.judge(len(guess), job.read - begun)
        if guess and job.sequence is not None:
            self._backend.truncate(job.sequence, job.read)

    def _tell(self, job: Job, more: Callable[[], Piece]) -> None:
        """Append what ``more`` gives to the answer; end it where that was the last or failed."""
        try:
            piece = more()
        except Exception as error:
            self._fail(job, error)
            return
        self.counts.completion_tokens += len(piece.tokens)
        job.ids += piece.tokens
        if piece.tokens:
            self._letters.append((job, piece))
        if job.state.finish_reason is not None:
            self._running.remove(job)
            self._finish(job)

    def _finish(self, job: Job) -> None:
        reason = job.state.finish_reason
        assert reason is not None
        setattr(self.counts, reason, getattr(self.counts, reason) + 1)
        if job.sequence is not None:
            self._backend.truncate(job.sequence, job.read)
            self._prefixes.keep(job.model, job.sequence, job.ids[: job.read])
            job.sequence = None
        del self._open[job]
        self._letters.append((job, job.completion()))

    def _fail(self, job: Job, error: Exception) -> None:
        self._running.remove(job)
        self.counts.failed += 1
        if job.sequence is not None:
            self._backend.release(job.sequence)
            job.sequence = None
        del self._open[job]
        self._letters.append((job, error))
