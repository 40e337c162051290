"""A model of canned answers that keeps the engine's promise, for tests of what surrounds the engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from empu.engine.outputs import Completion, TextDelta, Timings
from empu.engine.sampling import SamplingParams
from empu.errors import PromptTooLongError

LIMIT = 200
"""Characters of dialogue that fit; each counts as a token."""


@dataclass
class CannedGeneration:
    """Says its words one by one until it is cancelled."""

    words: list[str]
    params: SamplingParams
    prompt_tokens: int
    dropped: int
    interrupt_after: int | None
    cancelled: bool = False
    said: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[TextDelta]:
        for number, word in enumerate(self.words):
            if self.cancelled:
                return
            if number == self.interrupt_after:
                os.kill(os.getpid(), signal.SIGINT)  # the user presses Ctrl-C
            self.said.append(word)
            yield TextDelta(text=word, tokens=(number,), logprobs=())

    def cancel(self) -> None:
        self.cancelled = True

    @property
    def completion(self) -> Completion:
        return Completion(
            text="".join(self.said),
            finish_reason="cancelled" if self.cancelled else "stop",
            stop_string=None,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=len(self.said),
            dropped_tokens=self.dropped,
            seed=self.params.seed if self.params.seed is not None else 7,
            timings=Timings(
                load_s=0.0,
                prefill_s=0.0,
                first_token_s=0.0,
                decode_s=0.0,
                prefill_tokens_per_s=0.0,
                decode_tokens_per_s=0.0,
            ),
            logprobs=None,
        )


@dataclass
class CannedModel:
    """Repeats what it was asked, and remembers the questions."""

    has_template: bool = True
    words: list[str] | None = None
    interrupt_after: int | None = None
    asked: list[Any] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)

    @property
    def text(self) -> SimpleNamespace:
        return SimpleNamespace(template=object() if self.has_template else None)

    task = None

    @property
    def backend(self) -> SimpleNamespace:
        return SimpleNamespace(name="canned")

    def stream(self, prompt: Any, params: SamplingParams, *, truncate: bool = False) -> CannedGeneration:
        self.asked.append(prompt)
        self.params.append(replace(params))
        text = prompt if isinstance(prompt, str) else "".join(m["content"] for m in prompt)
        dropped = max(0, len(text) - LIMIT)
        if dropped and not truncate:
            raise PromptTooLongError(len(text), LIMIT)
        words = self.words
        if words is None:
            last = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            words = [part + " " for part in f"You said: {last}".split(" ")]
        return CannedGeneration(words, params, len(text) - dropped, dropped, self.interrupt_after)
