"""Guessing ahead from the text itself: the same answers in fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from empu.engine.backends.native import NativeBackend, open_native
from empu.engine.backends.protocol import Chunk
from empu.engine.language_model import LanguageModel
from empu.engine.prompt import Prompt
from empu.engine.prompt_lookup import LONGEST, PAUSE, Drafts
from empu.engine.sampling import SamplingParams
from empu.engine.scheduler import Limits, Scheduler
from empu.text.base import Text
from tests.engine.letters import Letters
from tests.engine.native_reference import random_checkpoint
from tests.engine.test_adapters import SHAPE
from tests.engine.test_scheduler import Reader, tokens

LETTERS = Letters(eos=())


class Counting(NativeBackend):
    """Counts forward passes."""

    steps = 0

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        self.steps += 1
        return super().forward(batch)


def backend() -> Counting:
    opened = open_native(random_checkpoint(SHAPE.replace(vocab_size=LETTERS.vocab_size), "Q4_1"), threads=1)
    opened.__class__ = Counting
    assert isinstance(opened, Counting)
    return opened


def test_what_followed_before_is_guessed_and_wrong_guesses_pause() -> None:
    drafts = Drafts([1, 2, 3, 4, 5, 6, 7, 1, 2, 3])
    assert drafts.guess() == [4, 5]
    assert drafts.guess(1) == [4]
    drafts.judge(2, 2)
    assert drafts.guess() == [4, 5, 6, 7]
    drafts.add([4, 5])
    assert drafts.guess() == [6, 7, 1, 2]
    drafts.judge(4, 1)
    assert drafts.guess() == [6]
    waits = []
    for _ in range(8):
        drafts.judge(1, 0)
        waits.append(0)
        while not drafts.guess():
            waits[-1] += 1
    assert waits == [1, 3, 7, 15, 31, PAUSE, PAUSE, PAUSE]
    for _ in range(8):
        drafts.judge(1, 1)
    assert len(Drafts([1, 2, 3] * 10).guess()) == 2
    assert len(drafts.guess()) <= LONGEST
    assert Drafts([1, 2]).guess() == []


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {"seed": 4, "temperature": 0.3}, {"seed": 5, "logprobs": 3}])
def test_answers_are_the_same_with_and_without(params: dict[str, float]) -> None:
    answers: list[list[object]] = []
    steps = []
    for speculates in (False, True):
        counting = backend()
        model = LanguageModel(counting, Text(LETTERS, None, add_bos=True), checkpoint_path=Path("x"), context=400)
        model.speculates = speculates
        answers.append([])
        for prompt in ("abcabcabcabcabc", "abcdefgh" * 9, "qwertz"):
            completion = model.stream(prompt, SamplingParams(max_tokens=120, **params)).completion  # type: ignore[arg-type]
            answers[-1].append((completion.text, completion.logprobs, completion.completion_tokens))
        steps.append(counting.steps)
    assert answers[0] == answers[1]
    if params.get("temperature") == 0:
        assert steps[1] < 0.8 * steps[0], "greedy answers of a small random model go round in circles"


def test_the_scheduler_gives_the_same_tokens_in_fewer_steps() -> None:
    prompts = [LETTERS.encode(text) for text in ("abcabcabcabcabc", "abcdefgh" * 9, "qwertz", "hello hello hello")]
    params = [SamplingParams(temperature=0.0 if i % 2 else 0.2, seed=i, max_tokens=90 + i) for i in range(4)]
    given, steps = [], []
    for exact in (False, True):
        counting = backend()
        counting.exact = exact
        scheduler = Scheduler(counting, LETTERS, 400, Limits(slots=4, step_tokens=40))
        readers = [Reader() for _ in prompts]
        for prompt, one, reader in zip(prompts, params, readers, strict=True):
            scheduler.submit(Prompt(list(prompt)), one, reader)
        scheduler.start()
        assert [reader.completion.completion_tokens for reader in readers] == [90, 91, 92, 93]
        again = Reader()
        scheduler.submit(Prompt([*prompts[1], *tokens(readers[1]), 5]), params[1], again)
        assert again.completion.cached_tokens == len(prompts[1]) + 90
        scheduler.close(timeout_s=20)
        given.append([tokens(reader) for reader in (*readers, again)])
        steps.append(counting.steps)
    assert given[0] == given[1]
    assert steps[1] < steps[0]
