"""One request on its way through the scheduler, and what it is told."""

from __future__ import annotations

import time
from collections.abc import Callable

from empu.engine.backends.protocol import Backend, SequenceId
from empu.engine.generation import AnswerState, Completion, Piece, Timings
from empu.engine.prompt import Prompt
from empu.engine.prompt_lookup import Drafts

Update = Piece | Completion | Exception
"""What a request is told: its pieces, and at the end its completion or what went wrong, once."""


class Job:
    """One request. ``deliver`` is called in the scheduler's thread."""

    def __init__(
        self,
        model: Backend,
        prompt: Prompt,
        state: AnswerState,
        capacity: int,
        deliver: Callable[[Update], None],
        wake: Callable[[], None],
    ) -> None:
        self.model = model
        """The backend, or a view of it with an adapter."""
        self.prompt = prompt
        self.state = state
        self.capacity = capacity
        self.sequence: SequenceId | None = None
        self.ids = list(prompt.ids)
        """Prompt and answer so far."""
        self.read = 0
        """How many of ``ids`` the cache holds."""
        self.drafts: Drafts | None = None
        self.guess: list[int] = []
        """Tokens that are read in this step behind ``ids``, though nobody chose them yet."""
        self.cached = 0
        self.cancelled = False
        self.submitted = self.begun = time.perf_counter()
        self.first: float | None = None
        """When the first token was chosen."""
        self._deliver = deliver
        self._held: Piece | None = None
        self._told = False
        self._wake = wake

    @property
    def is_reading(self) -> bool:
        """Whether a part of the prompt is still to be read."""
        return self.read < len(self.prompt.ids)

    def cancel(self) -> None:
        """End after the current step, from any thread. The completion then says ``cancelled``."""
        self.cancelled = True
        self._wake()

    def tell(self, update: Update, *, may_wait: bool = False) -> None:
        """Deliver; a reader that is gone cancels. A piece that ``may_wait`` comes with the next one."""
        if isinstance(update, Piece):
            if self._held is not None:
                update = self._held.followed_by(update)
            self._held = update if may_wait and self._told else None
            if self._held is not None:
                return
        self._told = True
        held, self._held = self._held, None
        try:
            if held is not None:
                self._deliver(held)
            self._deliver(update)
        except Exception:
            self.cancelled = True

    def completion(self) -> Completion:
        """Of a finished answer."""
        state, ended = self.state, time.perf_counter()
        assert state.finish_reason is not None
        fresh, written = len(self.prompt.ids) - self.cached, len(state.tokens) - 1
        first = self.first
        prefill, decode = (first - self.begun, ended - first) if first is not None else (0.0, 0.0)
        return Completion(
            text=state.text,
            finish_reason=state.finish_reason,
            stop_string=state.stop_string,
            prompt_tokens=len(self.prompt.ids),
            completion_tokens=len(state.tokens),
            dropped_tokens=self.prompt.dropped,
            seed=state.sampler.seed,
            timings=Timings(
                load_s=0.0,
                prefill_s=prefill,
                first_token_s=first - self.submitted if first is not None else 0.0,
                decode_s=decode,
                prefill_tokens_per_s=fresh / prefill if prefill > 0 else None,
                decode_tokens_per_s=written / decode if written > 0 and decode > 0 else None,
            ),
            logprobs=state.logprobs,
            cached_tokens=self.cached,
        )
