"""One request in the scheduler, and the updates that it sends."""

from __future__ import annotations

import time
from collections.abc import Callable

from empu.engine.backends.protocol import Backend, SequenceId
from empu.engine.generation import GenerationState
from empu.engine.outputs import Completion, TextDelta
from empu.engine.prompt import EncodedPrompt
from empu.engine.prompt_lookup import PromptLookup

RequestUpdate = TextDelta | Completion | Exception
"""Text deltas, and as the last update the completion or an error."""


class GenerationRequest:
    """A request for one generation. ``on_update`` is called in the scheduler's thread."""

    def __init__(
        self,
        backend: Backend,
        prompt: EncodedPrompt,
        state: GenerationState,
        capacity: int,
        on_update: Callable[[RequestUpdate], None],
        wake_scheduler: Callable[[], None],
    ) -> None:
        self.backend = backend
        """The scheduler's backend, or a view of it with an adapter."""
        self.prompt = prompt
        self.state = state
        self.capacity = capacity
        self.sequence: SequenceId | None = None
        self.ids = list(prompt.ids)
        """Tokens of the prompt and of the answer so far."""
        self.num_computed = 0
        """How many of ``ids`` the KV cache holds."""
        self.prompt_lookup: PromptLookup | None = None
        self.draft: list[int] = []
        """Draft tokens that this step verifies; they are not in ``ids`` yet."""
        self.cached_tokens = 0
        self.cancelled = False
        self.submitted_at = self.started_at = time.perf_counter()
        self.first_token_at: float | None = None
        self._on_update = on_update
        self._wake_scheduler = wake_scheduler
        self._held_delta: TextDelta | None = None
        self._has_sent = False

    @property
    def is_prefilling(self) -> bool:
        """Whether a part of the prompt is not computed yet."""
        return self.num_computed < len(self.prompt.ids)

    def cancel(self) -> None:
        """End after the current step, from any thread. The finish reason is then ``cancelled``."""
        self.cancelled = True
        self._wake_scheduler()

    def send(self, update: RequestUpdate, *, may_wait: bool = False) -> None:
        """Call ``on_update``; if that fails, cancel. A delta that ``may_wait`` is joined with the next one.

        The first delta never waits.
        """
        if isinstance(update, TextDelta):
            if self._held_delta is not None:
                update = self._held_delta.joined_with(update)
            self._held_delta = update if may_wait and self._has_sent else None
            if self._held_delta is not None:
                return
        self._has_sent = True
        held, self._held_delta = self._held_delta, None
        try:
            if held is not None:
                self._on_update(held)
            self._on_update(update)
        except Exception:
            self.cancelled = True

    def completion(self) -> Completion:
        """Return the completion of a finished request."""
        ended_at, first = time.perf_counter(), self.first_token_at
        return self.state.completion(
            self.prompt,
            cached_tokens=self.cached_tokens,
            load_s=0.0,
            prefill_s=first - self.started_at if first is not None else 0.0,
            first_token_s=first - self.submitted_at if first is not None else 0.0,
            decode_s=ended_at - first if first is not None else 0.0,
        )
