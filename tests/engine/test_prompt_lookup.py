"""Prompt lookup: the same output in fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from empu.engine.backends.native import NativeBackend, open_native
from empu.engine.backends.protocol import Chunk
from empu.engine.language_model import LanguageModel
from empu.engine.prompt import EncodedPrompt
from empu.engine.prompt_lookup import MAX_DRAFT_TOKENS, MAX_PAUSE, PromptLookup
from empu.engine.sampling import SamplingParams
from empu.engine.scheduler import Scheduler, SchedulerConfig
from empu.text.base import TextProcessor
from tests.engine.backends.memory_checkpoint import SMALL, random_checkpoint
from tests.engine.byte_tokenizer import ByteTokenizer
from tests.engine.doubles import UpdateCollector

TOKENIZER = ByteTokenizer(eos=())


class CountingBackend(NativeBackend):
    """Counts forward passes."""

    num_steps = 0

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        self.num_steps += 1
        return super().forward(batch)


def counting_backend() -> CountingBackend:
    backend = open_native(random_checkpoint(SMALL.replace(vocab_size=TOKENIZER.vocab_size), "Q4_1"), threads=1)
    backend.__class__ = CountingBackend
    assert isinstance(backend, CountingBackend)
    return backend


def test_drafts_copy_earlier_text_and_pause_after_rejections() -> None:
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 7, 1, 2, 3])
    assert lookup.propose() == [4, 5]
    assert lookup.propose(1) == [4]
    lookup.record_result(2, 2)
    assert lookup.propose() == [4, 5, 6, 7]
    lookup.extend([4, 5])
    assert lookup.propose() == [6, 7, 1, 2]
    lookup.record_result(4, 1)
    assert lookup.propose() == [6]
    pauses = []
    for _ in range(8):
        lookup.record_result(1, 0)
        pauses.append(0)
        while not lookup.propose():
            pauses[-1] += 1
    assert pauses == [1, 3, 7, 15, 31, MAX_PAUSE, MAX_PAUSE, MAX_PAUSE]
    for _ in range(8):
        lookup.record_result(1, 1)
    assert len(PromptLookup([1, 2, 3] * 10).propose()) == 2
    assert len(lookup.propose()) <= MAX_DRAFT_TOKENS
    assert PromptLookup([1, 2]).propose() == []


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {"seed": 4, "temperature": 0.3}, {"seed": 5, "logprobs": 3}])
def test_output_is_the_same_with_and_without_drafts(params: dict[str, float]) -> None:
    outputs: list[list[object]] = []
    num_steps = []
    for uses_prompt_lookup in (False, True):
        backend = counting_backend()
        text = TextProcessor(TOKENIZER, None, add_bos=True)
        model = LanguageModel(backend, text, checkpoint_path=Path("x"), context_length=400)
        model.uses_prompt_lookup = uses_prompt_lookup
        outputs.append([])
        for prompt in ("abcabcabcabcabc", "abcdefgh" * 9, "qwertz"):
            completion = model.stream(prompt, SamplingParams(max_tokens=120, **params)).completion  # type: ignore[arg-type]
            outputs[-1].append((completion.text, completion.logprobs, completion.completion_tokens))
        num_steps.append(backend.num_steps)
    assert outputs[0] == outputs[1]
    if params.get("temperature") == 0:
        assert num_steps[1] < 0.8 * num_steps[0], "greedy output of a small random model repeats itself"


def test_the_scheduler_generates_the_same_tokens_in_fewer_steps() -> None:
    prompts = [TOKENIZER.encode(text) for text in ("abcabcabcabcabc", "abcdefgh" * 9, "qwertz", "hello hello hello")]
    params = [SamplingParams(temperature=0.0 if i % 2 else 0.2, seed=i, max_tokens=90 + i) for i in range(4)]
    outputs, num_steps = [], []
    for batch_invariant in (False, True):
        backend = counting_backend()
        backend.batch_invariant = batch_invariant
        scheduler = Scheduler(backend, TOKENIZER, 400, SchedulerConfig(max_running=4, max_step_tokens=40))
        collectors = [UpdateCollector() for _ in prompts]
        for i, prompt in enumerate(prompts):
            scheduler.submit(EncodedPrompt(list(prompt)), params[i], collectors[i])
        scheduler.start()
        assert [collector.completion.completion_tokens for collector in collectors] == [90, 91, 92, 93]
        continued = UpdateCollector()
        scheduler.submit(EncodedPrompt([*prompts[1], *collectors[1].tokens, 5]), params[1], continued)
        assert continued.completion.cached_tokens == len(prompts[1]) + 90
        scheduler.close(timeout_s=20)
        outputs.append([collector.tokens for collector in (*collectors, continued)])
        num_steps.append(backend.num_steps)
    assert outputs[0] == outputs[1]
    assert num_steps[1] < num_steps[0]
