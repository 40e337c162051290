"""Continuous batching: every request ends with the tokens that it would get alone, and all sequences are released."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empu.checkpoint.lora_adapter import LoraAdapter
from empu.engine.backends.protocol import Chunk, SequenceId
from empu.engine.backends.torch import TorchBackend
from empu.engine.language_model import LanguageModel
from empu.engine.prompt import EncodedPrompt
from empu.engine.request import GenerationRequest, RequestUpdate
from empu.engine.sampling import SamplingParams
from empu.engine.scheduler import MAX_UNDELAYED_REQUESTS, Scheduler, SchedulerConfig
from empu.errors import CacheFullError, EmpuError, PromptTooLongError, QueueFullError, UsageError
from empu.text.base import TextProcessor
from tests.engine.byte_tokenizer import ByteTokenizer
from tests.engine.doubles import UniformBackend, UpdateCollector
from tests.tune.samples import tiny_model

CONTEXT_LENGTH = 200


def test_an_error_in_the_thread_fails_every_request() -> None:
    backend, started, gate = UniformBackend(), threading.Event(), threading.Event()

    def blocked_forward(batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        started.set()
        assert gate.wait(20)
        return UniformBackend.forward(backend, batch)

    def failing_truncate(sequence: SequenceId, length: int) -> None:
        raise MemoryError

    backend.forward, backend.truncate = blocked_forward, failing_truncate  # type: ignore[method-assign]
    scheduler = Scheduler(backend, ByteTokenizer(), CONTEXT_LENGTH, SchedulerConfig(max_running=2))
    scheduler.start()
    collectors = [UpdateCollector() for _ in range(5)]
    for collector in collectors:
        scheduler.submit(EncodedPrompt([1, 2, 3]), SamplingParams(max_tokens=1), collector)
        assert started.wait(20)
    future = scheduler.run_between_steps(lambda: None)
    gate.set()
    for collector in collectors:
        assert "MemoryError" in str(collector.error)
    with pytest.raises(EmpuError, match="start it again"):
        future.result(20)
    with pytest.raises(EmpuError, match="start it again"):
        scheduler.submit(EncodedPrompt([1]), SamplingParams(), UpdateCollector())
    with pytest.raises(EmpuError, match="start it again"):
        scheduler.run_between_steps(lambda: None)
    assert scheduler.load == (0, 0)
    scheduler.close()


def submit(scheduler: Scheduler, ids: Sequence[int], **params: object) -> tuple[GenerationRequest, UpdateCollector]:
    collector = UpdateCollector()
    return scheduler.submit(EncodedPrompt(list(ids)), SamplingParams(**params), collector), collector  # type: ignore[arg-type]


@pytest.fixture
def schedulers() -> Iterator[list[Scheduler]]:
    """Closes what a test appends."""
    started: list[Scheduler] = []
    yield started
    for scheduler in started:
        scheduler.close(timeout_s=20)


requests = st.lists(
    st.tuples(
        st.lists(st.integers(3, 6), min_size=1, max_size=60), st.integers(1, 40), st.integers(0, 3), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60)
@given(requests, st.integers(1, 4), st.integers(0, 3), st.integers(4, 9), st.integers(5, 40))
def test_every_request_ends_with_the_exact_number_of_tokens(
    inputs: list[tuple[list[int], int, int, bool]],
    max_running: int,
    max_cached_prefixes: int,
    max_sequences: int,
    max_step_tokens: int,
) -> None:
    backend = UniformBackend(max_sequences)
    scheduler = Scheduler(
        backend,
        ByteTokenizer(eos=()),
        CONTEXT_LENGTH,
        SchedulerConfig(max_running, 100, max_step_tokens, max_cached_prefixes),
    )
    collectors = []
    for ids, count, seed, cancel in inputs:
        request, collector = submit(scheduler, ids, max_tokens=count, seed=seed)
        collectors.append(collector)
        if cancel:
            request.cancel()
    scheduler.start()
    for (ids, count, seed, cancel), collector in zip(inputs, collectors, strict=True):
        completion = collector.completion
        assert completion.prompt_tokens == len(ids)
        assert completion.finish_reason == ("cancelled" if cancel else "length")
        assert completion.completion_tokens == len(collector.tokens) == (0 if cancel else count)
        assert completion.cached_tokens < len(ids)
        assert completion.seed == seed
    scheduler.close(timeout_s=20)
    assert not backend.sequences, "a sequence was not released"
    assert all(sum(len(chunk.tokens) for chunk in batch) <= max_step_tokens for batch in backend.batches)
    assert all(len(batch) <= max_running for batch in backend.batches)


def test_prefill_follows_the_order_of_arrival(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend()
    scheduler = Scheduler(
        backend,
        ByteTokenizer(eos=()),
        CONTEXT_LENGTH,
        SchedulerConfig(max_running=3, max_waiting=20, max_step_tokens=16, max_cached_prefixes=0),
    )
    schedulers.append(scheduler)
    prompts = [[10 + i] * 30 for i in range(8)]
    collectors = [submit(scheduler, ids, max_tokens=5)[1] for ids in prompts]
    scheduler.start()
    for collector in collectors:
        _ = collector.completion
    order: list[int] = []
    for batch in backend.batches:
        for chunk in batch:
            if len(chunk.tokens) > 1 and (first := int(chunk.tokens[0])) not in order:
                order.append(first)
    assert order == [10 + i for i in range(8)]


def test_decoding_requests_get_a_token_in_every_step_beside_a_long_prefill(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend()
    scheduler = Scheduler(
        backend,
        ByteTokenizer(eos=()),
        CONTEXT_LENGTH,
        SchedulerConfig(max_running=4, max_step_tokens=8, max_cached_prefixes=0),
    )
    schedulers.append(scheduler)
    collectors = [submit(scheduler, [5], max_tokens=20)[1], submit(scheduler, [7] * 100, max_tokens=1)[1]]
    scheduler.start()
    for collector in collectors:
        _ = collector.completion
    first = backend.batches[0][0].sequence
    assert all(first in {chunk.sequence for chunk in batch} for batch in backend.batches[:20])
    assert any(len(batch) == 2 for batch in backend.batches[:20])


def test_cancelling_releases_the_sequence_and_the_slot(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend()
    backend.gate = threading.Event()
    scheduler = Scheduler(
        backend,
        ByteTokenizer(eos=()),
        CONTEXT_LENGTH,
        SchedulerConfig(max_running=1, max_waiting=5, max_cached_prefixes=0),
    )
    schedulers.append(scheduler)
    scheduler.start()
    long, cancelled = submit(scheduler, [5], max_tokens=150)
    _, after = submit(scheduler, [6], max_tokens=3)
    long.cancel()
    backend.gate.set()
    assert cancelled.completion.finish_reason == "cancelled"
    assert cancelled.completion.completion_tokens < 150
    assert after.completion.completion_tokens == 3
    assert not backend.sequences
    assert scheduler.load == (0, 0)


def test_a_full_queue_refuses(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend()
    backend.gate = threading.Event()
    scheduler = Scheduler(backend, ByteTokenizer(eos=()), CONTEXT_LENGTH, SchedulerConfig(max_running=2, max_waiting=3))
    schedulers.append(scheduler)
    collectors = [submit(scheduler, [5 + i], max_tokens=2)[1] for i in range(5)]
    with pytest.raises(QueueFullError, match="The queue is full"):
        submit(scheduler, [9])
    assert scheduler.counters.refused == 1
    scheduler.start()
    backend.gate.set()
    assert [collector.completion.completion_tokens for collector in collectors] == [2] * 5


def test_a_common_prefix_is_computed_once(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend()
    scheduler = Scheduler(
        backend, ByteTokenizer(eos=()), CONTEXT_LENGTH, SchedulerConfig(max_running=4, max_step_tokens=64)
    )
    schedulers.append(scheduler)
    prefix = list(range(3, 103))
    collectors = [submit(scheduler, [*prefix, 5, i], max_tokens=2)[1] for i in range(4)]
    scheduler.start()
    assert [collector.completion.cached_tokens for collector in collectors] == [0, 101, 101, 101]
    _, later = submit(scheduler, [*prefix, 9, 9], max_tokens=2)
    assert later.completion.cached_tokens == 100


def test_requests_with_different_adapters_run_in_one_batch_and_share_no_prefix(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend()
    views = [None, *(backend.with_adapter(LoraAdapter(1, 1.0, {})) for _ in range(2))]
    scheduler = Scheduler(
        backend, ByteTokenizer(eos=()), CONTEXT_LENGTH, SchedulerConfig(max_running=6, max_step_tokens=200)
    )
    schedulers.append(scheduler)
    ids = list(range(3, 63))
    collectors = [UpdateCollector() for _ in range(6)]
    for i, collector in enumerate(collectors):
        scheduler.submit(EncodedPrompt(ids), SamplingParams(max_tokens=9), collector, backend=views[i % 3])
    scheduler.start()
    assert [collector.completion.cached_tokens for collector in collectors] == [0, 0, 0, 59, 59, 59]
    assert max(len(batch) for batch in backend.batches) == 6
    later = UpdateCollector()
    scheduler.submit(
        EncodedPrompt([*ids, 5]),
        SamplingParams(max_tokens=1),
        later,
        backend=backend.with_adapter(LoraAdapter(1, 1.0, {})),
    )
    assert later.completion.cached_tokens == 0


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(schedulers: list[Scheduler]) -> None:
    scheduler = Scheduler(UniformBackend(), ByteTokenizer(eos=()), CONTEXT_LENGTH)
    schedulers.append(scheduler)
    with pytest.raises(PromptTooLongError, match="200 tokens and at most 199"):
        submit(scheduler, [5] * 200)
    scheduler.start()
    _, collector = submit(scheduler, [5] * 199, max_tokens=9)
    assert collector.completion.completion_tokens == 1


def test_a_failing_backend_fails_its_requests_and_serves_the_next(schedulers: list[Scheduler]) -> None:
    class Failing(UniformBackend):
        broken = True

        def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
            if self.broken:
                raise RuntimeError("boom")
            return super().forward(batch)

    backend = Failing()
    scheduler = Scheduler(backend, ByteTokenizer(eos=()), CONTEXT_LENGTH)
    schedulers.append(scheduler)
    _, collector = submit(scheduler, [5, 6], max_tokens=2)
    scheduler.start()
    assert str(collector.error) == "boom"
    assert not backend.sequences
    backend.broken = False
    assert submit(scheduler, [5, 6], max_tokens=2)[1].completion.completion_tokens == 2


def test_a_request_that_never_fits_the_memory_fails(schedulers: list[Scheduler]) -> None:
    scheduler = Scheduler(UniformBackend(max_sequences=0), ByteTokenizer(eos=()), CONTEXT_LENGTH)
    schedulers.append(scheduler)
    scheduler.start()
    assert "no room" in str(submit(scheduler, [5])[1].error)


def test_a_request_that_waits_for_memory_is_not_overtaken(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend(max_tokens=100)
    scheduler = Scheduler(
        backend, ByteTokenizer(eos=()), CONTEXT_LENGTH, SchedulerConfig(max_running=4, max_waiting=20)
    )
    schedulers.append(scheduler)
    prompts = [[10] * 5, [11] * 5, [12] * 60, *([20 + i] * 5 for i in range(12))]
    collectors = [submit(scheduler, ids, max_tokens=30)[1] for ids in prompts]
    scheduler.start()
    assert [collector.completion.completion_tokens for collector in collectors] == [30] * len(prompts)
    started = {int(chunk.tokens[0]): None for batch in backend.batches for chunk in batch if len(chunk.tokens) > 1}
    assert list(started) == [ids[0] for ids in prompts]
    never = submit(scheduler, [9] * 99, max_tokens=30)[1]
    assert isinstance(never.error, CacheFullError)


def test_a_token_outside_the_vocabulary_is_refused_at_submission(schedulers: list[Scheduler]) -> None:
    scheduler = Scheduler(UniformBackend(), ByteTokenizer(eos=()), CONTEXT_LENGTH)
    schedulers.append(scheduler)
    unknown = UniformBackend.config.vocab_size
    with pytest.raises(UsageError, match=f"token {unknown:,}"):
        submit(scheduler, [5, unknown, 6])


def test_a_callback_that_raises_cancels_the_request(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend()
    scheduler = Scheduler(backend, ByteTokenizer(eos=()), CONTEXT_LENGTH, SchedulerConfig(max_cached_prefixes=0))
    schedulers.append(scheduler)

    def raising_callback(update: RequestUpdate) -> None:
        raise RuntimeError("the loop is closed")

    scheduler.submit(EncodedPrompt([5]), SamplingParams(max_tokens=100), raising_callback)
    scheduler.start()
    assert submit(scheduler, [6], max_tokens=50)[1].completion.completion_tokens == 50
    assert not backend.sequences
    assert scheduler.counters.cancelled == 1


@pytest.mark.parametrize("num_requests", [MAX_UNDELAYED_REQUESTS, MAX_UNDELAYED_REQUESTS + 1])
def test_with_many_requests_updates_are_joined_but_first_tokens_are_not_delayed(
    schedulers: list[Scheduler], monkeypatch: pytest.MonkeyPatch, num_requests: int
) -> None:
    monkeypatch.setattr("empu.engine.scheduler.UPDATE_INTERVAL_S", 60.0)
    scheduler = Scheduler(
        UniformBackend(), ByteTokenizer(eos=()), CONTEXT_LENGTH, SchedulerConfig(max_cached_prefixes=0)
    )
    schedulers.append(scheduler)
    collectors = [submit(scheduler, [5, 6], max_tokens=20, seed=i, logprobs=1)[1] for i in range(num_requests)]
    scheduler.start()
    for collector in collectors:
        completion = collector.completion
        deltas = collector.deltas
        assert len(deltas[0].tokens) == 1
        assert [len(delta.tokens) for delta in deltas] == (
            [1] * 20 if num_requests == MAX_UNDELAYED_REQUESTS else [1, 19]
        )
        assert "".join(delta.text for delta in deltas) == completion.text
        assert len(collector.tokens) == 20
        assert sum((delta.logprobs for delta in deltas), ()) == completion.logprobs


def test_closing_drains_or_cancels() -> None:
    for drain, reason in ((True, "length"), (False, "cancelled")):
        backend = UniformBackend()
        backend.gate = threading.Event()
        scheduler = Scheduler(backend, ByteTokenizer(eos=()), CONTEXT_LENGTH, SchedulerConfig(max_running=1))
        scheduler.start()
        collectors = [submit(scheduler, [5 + i], max_tokens=30)[1] for i in range(3)]
        scheduler.close(drain=drain, timeout_s=0.0)
        backend.gate.set()
        assert [collector.completion.finish_reason for collector in collectors] == [reason] * 3
        scheduler.close(timeout_s=20)
        with pytest.raises(EmpuError, match="being closed"):
            submit(scheduler, [5])
        assert not backend.sequences


def test_functions_run_between_steps(schedulers: list[Scheduler]) -> None:
    scheduler = Scheduler(UniformBackend(), ByteTokenizer(eos=()), CONTEXT_LENGTH)
    schedulers.append(scheduler)
    scheduler.start()
    _, collector = submit(scheduler, [5], max_tokens=150)
    assert scheduler.run_between_steps(threading.current_thread).result(10).name == "empu-scheduler"
    with pytest.raises(ZeroDivisionError):
        scheduler.run_between_steps(lambda: 1 // 0).result(10)
    assert collector.completion.completion_tokens == 150


def test_cached_prefixes_make_room_for_functions(schedulers: list[Scheduler]) -> None:
    backend = UniformBackend(max_tokens=100)
    scheduler = Scheduler(backend, ByteTokenizer(eos=()), CONTEXT_LENGTH)
    schedulers.append(scheduler)
    scheduler.start()
    assert submit(scheduler, [5] * 40, max_tokens=40)[1].completion.completion_tokens == 40
    assert backend.sequences, "the prefix is cached"

    def allocate_most() -> int:
        sequence = backend.allocate(90)
        backend.release(sequence)
        return 7

    assert scheduler.run_between_steps(allocate_most).result(10) == 7
    with pytest.raises(CacheFullError):
        scheduler.run_between_steps(lambda: backend.allocate(101)).result(10)


def test_invalid_configurations_are_refused() -> None:
    with pytest.raises(UsageError):
        SchedulerConfig(max_running=0)
    with pytest.raises(UsageError):
        SchedulerConfig(max_running=16, max_step_tokens=16)


def test_completions_equal_those_of_the_language_model() -> None:
    text = TextProcessor(ByteTokenizer(eos=(2,)), None, add_bos=True)
    alone = LanguageModel(TorchBackend(tiny_model()), text, checkpoint_path=Path("tiny"), context_length=CONTEXT_LENGTH)
    scheduler = Scheduler(
        TorchBackend(tiny_model()), text.tokenizer, CONTEXT_LENGTH, SchedulerConfig(max_running=5, max_step_tokens=11)
    )
    inputs = [("abcabc" * i + "xyz"[: i % 4], SamplingParams(seed=i, max_tokens=20, logprobs=2)) for i in range(1, 13)]
    collectors = []
    for prompt, params in inputs:
        collectors.append(UpdateCollector())
        ids = text.tokenizer.encode(prompt, add_bos=True)
        scheduler.submit(EncodedPrompt(ids), params, collectors[-1])
    scheduler.start()
    for (prompt, params), collector in zip(inputs, collectors, strict=True):
        expected, completion = alone.stream(prompt, params).completion, collector.completion
        assert completion.text == expected.text
        assert (completion.finish_reason, completion.completion_tokens) == (
            expected.finish_reason,
            expected.completion_tokens,
        )
        assert completion.logprobs is not None
        assert expected.logprobs is not None
        assert [item.token for item in completion.logprobs] == [item.token for item in expected.logprobs]
        for ours, theirs in zip(completion.logprobs, expected.logprobs, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)
    scheduler.close(timeout_s=20)
