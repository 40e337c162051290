"""Continuous batching: many generations at once on one backend, in a thread of its own.

Each step is one forward pass. Every decoding request gets its next token first. The rest of the step's token budget
goes to prefill, in order of arrival. Knows token ids, neither texts nor HTTP.
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

from empu.engine.backends.protocol import Backend, Chunk, LogitsNeeded
from empu.engine.generation import GenerationState, TokenConstraint
from empu.engine.outputs import TextDelta
from empu.engine.prefix_cache import PrefixCache, reusable_length
from empu.engine.prompt import EncodedPrompt
from empu.engine.prompt_lookup import MAX_DRAFT_TOKENS, PromptLookup
from empu.engine.request import GenerationRequest, RequestUpdate
from empu.engine.sampling import SamplingParams
from empu.errors import CacheFullError, EmpuError, PromptTooLongError, QueueFullError, UsageError
from empu.text.base import Tokenizer

log = logging.getLogger("empu.engine")

T = TypeVar("T")
MIN_SHARED_TOKENS = 16
"""A request waits for the prefill of another one when at least this many more of its tokens come from there."""
MAX_REQUESTS_WITH_LOOKUP = 4
"""Prompt lookup stops above this many decoding requests: a step then has work enough."""
MAX_UNDELAYED_REQUESTS = 8
"""Up to this many running requests, each step's tokens are sent at once. With more, they are sent every
``UPDATE_INTERVAL_S``, since sending takes time from the same processors. First tokens never wait.
"""
UPDATE_INTERVAL_S = 0.05
"""Twenty updates per second still read as a steady stream."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of a scheduler."""

    max_running: int = 16
    """Requests that run at once."""
    max_waiting: int = 64
    """Requests in the queue."""
    max_step_tokens: int = 256
    """Tokens of one forward pass."""
    max_cached_prefixes: int = 4
    """Finished sequences in the prefix cache."""

    def __post_init__(self) -> None:
        is_valid = self.max_running >= 1 and self.max_waiting >= 0 and self.max_cached_prefixes >= 0
        if not (is_valid and self.max_step_tokens > self.max_running):
            raise UsageError(
                f"{self} is not valid; give at least one running request, and more tokens per step than running "
                "requests."
            )


@dataclass(slots=True)
class SchedulerCounters:
    """Totals since the start. The page ``/metrics`` shows them under these names."""

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
    """Owns a backend: between :meth:`start` and :meth:`close` only its thread may use it."""

    def __init__(
        self, backend: Backend, tokenizer: Tokenizer, context_length: int, config: SchedulerConfig | None = None
    ) -> None:
        """``context_length`` is the maximum number of tokens of a prompt and its answer together."""
        self.config = config or SchedulerConfig()
        self.counters = SchedulerCounters()
        self.failure: EmpuError | None = None
        """Set when the thread failed and left the backend in an unknown state: then all requests are refused."""
        self._backend = backend
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._prefix_cache = PrefixCache(backend, self.config.max_cached_prefixes)
        self._changed = threading.Condition()
        """Guards the queues below, and wakes the thread."""
        self._waiting: deque[GenerationRequest] = deque()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._running: list[GenerationRequest] = []
        self._unfinished: dict[GenerationRequest, None] = {}
        """Requests whose last update is not written yet."""
        self._updates: list[tuple[GenerationRequest, RequestUpdate]] = []
        """Updates of the current step. They are sent together after it, so that readers run while the next step
        computes, and not between two samples of this one.
        """
        self._all_sent_at = 0.0
        self._is_closing = self._cancels_all = False
        self._thread = threading.Thread(target=self._run, name="empu-scheduler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, *, drain: bool = False, timeout_s: float | None = None) -> None:
        """Accept no more requests and wait for the thread. Requests are cancelled, or with ``drain`` completed."""
        with self._changed:
            self._is_closing = True
            self._cancels_all = self._cancels_all or not drain
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def load(self) -> tuple[int, int]:
        """Numbers of running and of waiting requests."""
        return len(self._running), len(self._waiting) + len(self._calls)

    def submit(
        self,
        prompt: EncodedPrompt,
        params: SamplingParams,
        on_update: Callable[[RequestUpdate], None],
        constraint: TokenConstraint | None = None,
        *,
        backend: Backend | None = None,
    ) -> GenerationRequest:
        """Queue a request, from any thread. ``backend`` is a view of the scheduler's backend with an adapter.

        Raises :class:`QueueFullError`, :class:`PromptTooLongError` when no token would fit, :attr:`failure` if it is
        set, and :class:`EmpuError` after :meth:`close`.
        """
        max_new_tokens = self._context_length - len(prompt.ids)
        if max_new_tokens < 1:
            raise PromptTooLongError(len(prompt.ids), self._context_length - 1, "shorten it")
        if (token := max(prompt.ids)) >= (vocab_size := self._backend.config.vocab_size):
            raise UsageError(
                f"The text contains the tokenizer's token {token:,}, but the model has only {vocab_size:,} tokens; "
                "leave it out, or open the model with its own tokenizer."
            )
        state = GenerationState(self._tokenizer, params, prompt.ids, max_new_tokens, constraint)
        capacity = len(prompt.ids) + min(max_new_tokens, params.max_tokens or max_new_tokens)
        request = GenerationRequest(backend or self._backend, prompt, state, capacity, on_update, self._wake)
        with self._changed:
            self._check_accepts()
            self._waiting.append(request)
            self._unfinished[request] = None
            self._changed.notify()
        return request

    def run_between_steps(self, function: Callable[[], T]) -> Future[T]:
        """Queue a function that uses the backend by itself. Raises :class:`QueueFullError`."""
        future: Future[T] = Future()
        with self._changed:
            self._check_accepts()
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def _check_accepts(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._is_closing:
            raise EmpuError("The model is being closed, to free memory or with its server; ask again in a moment.")
        free = self.config.max_running - len(self._running)
        num_waiting = len(self._waiting) + len(self._calls)
        if num_waiting >= self.config.max_waiting + max(0, free):
            self.counters.refused += 1
            raise QueueFullError(self.config.max_waiting)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    # All methods below run in the thread.

    def _run(self) -> None:
        try:
            while self._admit():
                self._run_next_call()
                self._step()
                self._send_updates()
            self._prefix_cache.clear()
        except Exception as error:
            log.exception("the scheduler failed; all running and waiting requests are refused")
            self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        """Refuse all requests, now and later."""
        with self._changed:
            self.failure = EmpuError(
                f"The engine failed ({type(error).__name__}) and stopped; look at the log and start it again. A server "
                "does that itself at the next request."
            )
            requests, calls = list(self._unfinished), list(self._calls)
            self._running, self._waiting = [], deque()
            self._unfinished.clear()
            self._calls.clear()
        self.counters.failed += len(requests)
        for request, update in self._updates:
            request.send(update)
        for request in requests:
            request.send(self.failure)
        for future, _ in calls:
            if future.set_running_or_notify_cancel():
                future.set_exception(self.failure)

    def _admit(self) -> bool:
        """Wait for work and move requests from the queue to the running ones. Return ``False`` at the end."""
        with self._changed:
            while not (self._waiting or self._running or self._calls or self._is_closing):
                self._changed.wait()
            if self._cancels_all:
                for request in (*self._waiting, *self._running):
                    request.cancelled = True
                for future, _ in self._calls:
                    future.cancel()
                self._calls.clear()
            cancelled = [request for request in (*self._running, *self._waiting) if request.cancelled]
            self._running = [request for request in self._running if not request.cancelled]
            self._waiting = deque(request for request in self._waiting if not request.cancelled)
            while self._waiting and len(self._running) < self.config.max_running:
                self._running.append(self._waiting.popleft())
            is_done = self._is_closing and not (self._running or self._calls)
        for request in cancelled:
            request.state.cancel()
            self._finish(request)
        self._send_updates()
        return not is_done

    def _send_updates(self) -> None:
        updates, self._updates = self._updates, []
        now = time.perf_counter()
        may_wait = len(self._running) > MAX_UNDELAYED_REQUESTS and now - self._all_sent_at < UPDATE_INTERVAL_S
        if not may_wait:
            self._all_sent_at = now
        for request, update in updates:
            request.send(update, may_wait=may_wait)

    def _run_next_call(self) -> None:
        with self._changed:
            if not self._calls:
                return
            future, function = self._calls.popleft()
        if not future.set_running_or_notify_cancel():
            return
        while True:
            try:
                result = function()
            except CacheFullError as error:
                if self._prefix_cache.evict():
                    continue
                future.set_exception(error)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            return

    def _step(self) -> None:
        plan = self._plan_step()
        if not plan:
            return
        try:
            logits = self._backend.forward([chunk for _, chunk in plan])
        except CacheFullError as error:  # cached prefixes go first, then the youngest request
            if not self._prefix_cache.evict():
                self._fail(plan[-1][0], error)
            return
        except Exception as error:
            for request, _ in plan:
                self._fail(request, error)
            return
        self.counters.steps += 1
        for (request, chunk), rows in zip(plan, logits, strict=True):
            request.num_computed += len(chunk.tokens) - len(request.draft)
            if len(rows):
                self._sample(request, rows[-1 - len(request.draft) :])

    def _plan_step(self) -> list[tuple[GenerationRequest, Chunk]]:
        """Return the chunks of one step: the last tokens of each decoding request, then prompts in order of arrival."""
        decoding = [request for request in self._running if not request.is_prefilling]
        for request in decoding:
            request.draft = self._propose_draft(request, len(decoding))
        plan = [(request, self._next_chunk(request, len(request.ids))) for request in decoding]
        budget = self.config.max_step_tokens - sum(len(chunk.tokens) for _, chunk in plan)
        running = list(self._running)
        memory_is_full = False
        for position, request in enumerate(running):
            if budget <= 0:
                break
            if not request.is_prefilling or (memory_is_full and request.sequence is None):
                continue
            if request.sequence is None:
                try:
                    if not self._start_prefill(request, running[:position]):
                        continue
                except CacheFullError as error:  # later requests wait too, so that none takes the memory that gets free
                    if any(other.sequence is not None for other in self._running):
                        memory_is_full = True
                    else:
                        self._fail(request, error)
                    continue
                except EmpuError as error:
                    self._fail(request, error)
                    continue
            chunk = self._next_chunk(request, budget)
            budget -= len(chunk.tokens)
            plan.append((request, chunk))
        return plan

    def _next_chunk(self, request: GenerationRequest, max_tokens: int) -> Chunk:
        assert request.sequence is not None
        tokens = request.ids[request.num_computed : request.num_computed + max_tokens]
        is_last = request.num_computed + len(tokens) == len(request.ids)
        logits_needed = LogitsNeeded.LAST if is_last else LogitsNeeded.NONE
        if request.draft:
            tokens, logits_needed = tokens + request.draft, LogitsNeeded.ALL
        return Chunk(request.sequence, np.asarray(tokens, dtype=np.int32), logits_needed)

    def _propose_draft(self, request: GenerationRequest, num_decoding: int) -> list[int]:
        if not self._backend.batch_invariant or num_decoding > MAX_REQUESTS_WITH_LOOKUP:
            return []
        if request.prompt_lookup is None:
            request.prompt_lookup = PromptLookup(request.ids)
        fair_share = self.config.max_step_tokens // num_decoding - (len(request.ids) - request.num_computed)
        return request.prompt_lookup.propose(min(MAX_DRAFT_TOKENS, fair_share, request.capacity - len(request.ids)))

    def _start_prefill(self, request: GenerationRequest, earlier: list[GenerationRequest]) -> bool:
        """Give the request a sequence, forked from the one with the longest reusable prefix.

        Return ``False`` when it should wait for a later step. Raises :class:`CacheFullError`.
        """
        source, length = self._prefix_cache.longest_match(request.backend, request.ids) or (None, 0)
        for other in earlier:
            if other.backend is not request.backend:
                continue
            common = reusable_length(other.ids, request.ids)
            if other.is_prefilling and other.num_computed < common and common >= length + MIN_SHARED_TOKENS:
                return False
            if other.sequence is not None and min(common, other.num_computed) > length:
                source, length = other.sequence, min(common, other.num_computed)
        try:
            if source is None:
                request.sequence = request.backend.allocate(request.capacity)
            else:
                request.sequence = request.backend.fork(source, length, request.capacity)
        except CacheFullError:
            if not self._prefix_cache.evict():
                raise
            return self._start_prefill(request, earlier)
        request.num_computed = request.cached_tokens = length
        request.started_at = time.perf_counter()
        self.counters.prompt_tokens += len(request.prompt.ids)
        self.counters.cached_tokens += length
        self._append(request, request.state.begin)
        return request.sequence is not None

    def _sample(self, request: GenerationRequest, logits: npt.NDArray[np.float32]) -> None:
        """Sample from ``logits``: those of the request's last token, and of each token of its draft."""
        if request.first_token_at is None:
            request.first_token_at = time.perf_counter()
        draft, request.draft = request.draft, []
        start = len(request.ids)
        for i, row in enumerate(logits):
            request.num_computed = start + i
            self._append(request, partial(request.state.sample, row))
            if request.sequence is None or request.ids[start + i :] != draft[i : i + 1]:
                break
        if request.prompt_lookup is not None:
            request.prompt_lookup.extend(request.ids[start:])
            if draft:
                request.prompt_lookup.record_result(len(draft), request.num_computed - start)
        if draft and request.sequence is not None:
            self._backend.truncate(request.sequence, request.num_computed)

    def _append(self, request: GenerationRequest, next_delta: Callable[[], TextDelta]) -> None:
        """Append the tokens of ``next_delta`` to the request, and finish or fail it where it ended."""
        try:
            delta = next_delta()
        except Exception as error:
            self._fail(request, error)
            return
        self.counters.completion_tokens += len(delta.tokens)
        request.ids += delta.tokens
        if delta.tokens:
            self._updates.append((request, delta))
        if request.state.finish_reason is not None:
            self._running.remove(request)
            self._finish(request)

    def _finish(self, request: GenerationRequest) -> None:
        reason = request.state.finish_reason
        assert reason is not None
        setattr(self.counters, reason, getattr(self.counters, reason) + 1)
        if request.sequence is not None:
            self._backend.truncate(request.sequence, request.num_computed)
            self._prefix_cache.add(request.backend, request.sequence, request.ids[: request.num_computed])
            request.sequence = None
        del self._unfinished[request]
        self._updates.append((request, request.completion()))

    def _fail(self, request: GenerationRequest, error: Exception) -> None:
        self._running.remove(request)
        self.counters.failed += 1
        if request.sequence is not None:
            self._backend.release(request.sequence)
            request.sequence = None
        del self._unfinished[request]
        self._updates.append((request, error))
