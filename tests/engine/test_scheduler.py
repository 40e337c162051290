"""Continuous batching: every request ends, with the tokens that it would get alone, and nothing is left behind."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empu.checkpoint.adapter import Adapter
from empu.config import preset
from empu.engine.backends.protocol import Chunk, SequenceId, Want
from empu.engine.backends.torch import TorchBackend
from empu.engine.generation import Completion, Piece
from empu.engine.language_model import LanguageModel
from empu.engine.prompt import Prompt
from empu.engine.request import Job, Update
from empu.engine.sampling import SamplingParams
from empu.engine.scheduler import CROWD, Limits, Scheduler
from empu.errors import BusyError, EmpuError, NoRoomError, PromptTooLongError, UsageError
from empu.text.base import Text
from tests.engine.letters import Letters
from tests.tune.making import tiny_model

CONTEXT = 200


class Uniform:
    """Every token is as likely as any other. Records each batch; holds at most ``memory`` sequences, which have room
    for at most ``room`` tokens together.
    """

    name = "uniform"
    exact = True
    config = preset("tiny")
    context = 200

    def __init__(self, memory: int = 1000, room: int = 1_000_000) -> None:
        self.held: dict[SequenceId, list[int]] = {}
        self.batches: list[list[Chunk]] = []
        self.gate: threading.Event | None = None
        self.capacities: dict[SequenceId, int] = {}
        self._memory = memory
        self._room = room
        self._numbers = itertools.count(1)

    def adapted(self, adapter: Adapter) -> Self:
        return copy.copy(self)

    def allocate(self, capacity: int) -> SequenceId:
        taken = sum(self.capacities[sequence] for sequence in self.held)
        if len(self.held) >= self._memory or taken + capacity > self._room:
            raise NoRoomError("There is no room for another sequence; wait.")
        sequence = SequenceId(next(self._numbers))
        self.held[sequence] = []
        self.capacities[sequence] = capacity
        return sequence

    def release(self, sequence: SequenceId) -> None:
        del self.held[sequence]

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        start = self.held[sequence][:length]
        assert len(start) == length
        forked = self.allocate(capacity)
        self.held[forked] = start
        return forked

    def length(self, sequence: SequenceId) -> int:
        return len(self.held[sequence])

    def truncate(self, sequence: SequenceId, length: int) -> None:
        del self.held[sequence][length:]

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        if self.gate is not None:
            assert self.gate.wait(10)
        assert len({chunk.sequence for chunk in batch}) == len(batch)
        self.batches.append(list(batch))
        rows = []
        for chunk in batch:
            self.held[chunk.sequence] += chunk.tokens.tolist()
            assert len(self.held[chunk.sequence]) <= self.capacities[chunk.sequence]
            rows.append(np.zeros((0 if chunk.want is Want.NONE else 1, self.config.vocab_size), dtype=np.float32))
        return rows


class Reader:
    """Collects what one request is told."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self._done = threading.Event()

    def __call__(self, update: Update) -> None:
        self.updates.append(update)
        if not isinstance(update, Piece):
            self._done.set()

    @property
    def completion(self) -> Completion:
        assert self._done.wait(20), "the request never ended"
        last = self.updates[-1]
        assert isinstance(last, Completion), last
        assert sum(not isinstance(update, Piece) for update in self.updates) == 1
        return last

    @property
    def error(self) -> Exception:
        assert self._done.wait(20)
        last = self.updates[-1]
        assert isinstance(last, Exception)
        return last


def test_a_mistake_in_the_thread_ends_every_request_with_a_reason() -> None:
    backend, entered, gate = Uniform(), threading.Event(), threading.Event()

    def held(batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        entered.set()
        assert gate.wait(20)
        return Uniform.forward(backend, batch)

    def broken(sequence: SequenceId, length: int) -> None:
        raise MemoryError

    backend.forward, backend.truncate = held, broken  # type: ignore[method-assign]
    scheduler = Scheduler(backend, Letters(), CONTEXT, Limits(slots=2))
    scheduler.start()
    readers = [Reader() for _ in range(5)]
    for reader in readers:
        scheduler.submit(Prompt([1, 2, 3]), SamplingParams(max_tokens=1), reader)
        assert entered.wait(20)
    call = scheduler.call(lambda: None)
    gate.set()
    for reader in readers:
        assert "MemoryError" in str(reader.error)
    with pytest.raises(EmpuError, match="start it again"):
        call.result(20)
    with pytest.raises(EmpuError, match="start it again"):
        scheduler.submit(Prompt([1]), SamplingParams(), Reader())
    with pytest.raises(EmpuError, match="start it again"):
        scheduler.call(lambda: None)
    assert scheduler.load == (0, 0)
    scheduler.close()


def tokens(reader: Reader) -> list[int]:
    return [token for update in reader.updates if isinstance(update, Piece) for token in update.tokens]


def ask(scheduler: Scheduler, ids: Sequence[int], **params: object) -> tuple[Job, Reader]:
    reader = Reader()
    return scheduler.submit(Prompt(list(ids)), SamplingParams(**params), reader), reader  # type: ignore[arg-type]


@pytest.fixture
def made() -> Iterator[list[Scheduler]]:
    schedulers: list[Scheduler] = []
    yield schedulers
    for scheduler in schedulers:
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
    asked: list[tuple[list[int], int, int, bool]], slots: int, prefixes: int, memory: int, step_tokens: int
) -> None:
    backend = Uniform(memory)
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots, 100, step_tokens, prefixes))
    readers = []
    for ids, count, seed, cancel in asked:
        job, reader = ask(scheduler, ids, max_tokens=count, seed=seed)
        readers.append(reader)
        if cancel:
            job.cancel()
    scheduler.start()
    for (ids, count, seed, cancel), reader in zip(asked, readers, strict=True):
        completion = reader.completion
        assert completion.prompt_tokens == len(ids)
        assert completion.finish_reason == ("cancelled" if cancel else "length")
        assert completion.completion_tokens == len(tokens(reader)) == (0 if cancel else count)
        assert completion.cached_tokens < len(ids)
        assert completion.seed == seed
    scheduler.close(timeout_s=20)
    assert not backend.held, "sequences were left behind"
    assert all(sum(len(chunk.tokens) for chunk in batch) <= step_tokens for batch in backend.batches)
    assert all(len(batch) <= slots for batch in backend.batches)


def test_prompts_are_read_in_the_order_of_arrival(made: list[Scheduler]) -> None:
    backend = Uniform()
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=3, queue=20, step_tokens=16, prefixes=0))
    made.append(scheduler)
    prompts = [[10 + i] * 30 for i in range(8)]
    readers = [ask(scheduler, ids, max_tokens=5)[1] for ids in prompts]
    scheduler.start()
    for reader in readers:
        _ = reader.completion
    order: list[int] = []
    for batch in backend.batches:
        for chunk in batch:
            if len(chunk.tokens) > 1 and (first := int(chunk.tokens[0])) not in order:
                order.append(first)
    assert order == [10 + i for i in range(8)]


def test_an_answer_in_progress_gets_a_token_in_every_step_while_long_prompts_are_read(made: list[Scheduler]) -> None:
    backend = Uniform()
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=4, step_tokens=8, prefixes=0))
    made.append(scheduler)
    readers = [ask(scheduler, [5], max_tokens=20)[1], ask(scheduler, [7] * 100, max_tokens=1)[1]]
    scheduler.start()
    for reader in readers:
        _ = reader.completion
    first = backend.batches[0][0].sequence
    assert all(first in {chunk.sequence for chunk in batch} for batch in backend.batches[:20])
    assert any(len(batch) == 2 for batch in backend.batches[:20])


def test_cancelling_frees_the_sequence_and_the_slot(made: list[Scheduler]) -> None:
    backend = Uniform()
    backend.gate = threading.Event()
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=1, queue=5, prefixes=0))
    made.append(scheduler)
    scheduler.start()
    long, cancelled = ask(scheduler, [5], max_tokens=150)
    _, after = ask(scheduler, [6], max_tokens=3)
    long.cancel()
    backend.gate.set()
    assert cancelled.completion.finish_reason == "cancelled"
    assert cancelled.completion.completion_tokens < 150
    assert after.completion.completion_tokens == 3
    assert not backend.held
    assert scheduler.load == (0, 0)


def test_a_full_queue_refuses(made: list[Scheduler]) -> None:
    backend = Uniform()
    backend.gate = threading.Event()
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=2, queue=3))
    made.append(scheduler)
    readers = [ask(scheduler, [5 + i], max_tokens=2)[1] for i in range(5)]
    with pytest.raises(BusyError, match="wait already"):
        ask(scheduler, [9])
    assert scheduler.counts.refused == 1
    scheduler.start()
    backend.gate.set()
    assert [reader.completion.completion_tokens for reader in readers] == [2] * 5


def test_what_prompts_share_is_read_once(made: list[Scheduler]) -> None:
    backend = Uniform()
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=4, step_tokens=64))
    made.append(scheduler)
    beginning = list(range(3, 103))
    readers = [ask(scheduler, [*beginning, 5, i], max_tokens=2)[1] for i in range(4)]
    scheduler.start()
    assert [reader.completion.cached_tokens for reader in readers] == [0, 101, 101, 101]
    _, later = ask(scheduler, [*beginning, 9, 9], max_tokens=2)
    assert later.completion.cached_tokens == 100


def test_models_with_different_adapters_run_together_and_share_no_beginning(made: list[Scheduler]) -> None:
    backend = Uniform()
    views = [None, *(backend.adapted(Adapter(1, 1.0, {})) for _ in range(2))]
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=6, step_tokens=200))
    made.append(scheduler)
    ids = list(range(3, 63))
    readers = [Reader() for _ in range(6)]
    for i, reader in enumerate(readers):
        scheduler.submit(Prompt(ids), SamplingParams(max_tokens=9), reader, model=views[i % 3])
    scheduler.start()
    assert [reader.completion.cached_tokens for reader in readers] == [0, 0, 0, 59, 59, 59]
    assert max(len(batch) for batch in backend.batches) == 6
    later = Reader()
    scheduler.submit(Prompt([*ids, 5]), SamplingParams(max_tokens=1), later, model=backend.adapted(Adapter(1, 1.0, {})))
    assert later.completion.cached_tokens == 0


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(made: list[Scheduler]) -> None:
    scheduler = Scheduler(Uniform(), Letters(eos=()), CONTEXT)
    made.append(scheduler)
    with pytest.raises(PromptTooLongError, match="200 tokens and at most 199"):
        ask(scheduler, [5] * 200)
    scheduler.start()
    _, reader = ask(scheduler, [5] * 199, max_tokens=9)
    assert reader.completion.completion_tokens == 1


def test_a_failing_backend_fails_its_requests_and_serves_the_next(made: list[Scheduler]) -> None:
    class Failing(Uniform):
        broken = True

        def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
            if self.broken:
                raise RuntimeError("boom")
            return super().forward(batch)

    backend = Failing()
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT)
    made.append(scheduler)
    _, reader = ask(scheduler, [5, 6], max_tokens=2)
    scheduler.start()
    assert str(reader.error) == "boom"
    assert not backend.held
    backend.broken = False
    assert ask(scheduler, [5, 6], max_tokens=2)[1].completion.completion_tokens == 2


def test_a_model_that_never_fits_is_an_error_for_the_request(made: list[Scheduler]) -> None:
    scheduler = Scheduler(Uniform(memory=0), Letters(eos=()), CONTEXT)
    made.append(scheduler)
    scheduler.start()
    assert "no room" in str(ask(scheduler, [5])[1].error)


def test_a_request_that_waits_for_room_is_not_overtaken(made: list[Scheduler]) -> None:
    backend = Uniform(room=100)
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=4, queue=20))
    made.append(scheduler)
    prompts = [[10] * 5, [11] * 5, [12] * 60, *([20 + i] * 5 for i in range(12))]
    readers = [ask(scheduler, ids, max_tokens=30)[1] for ids in prompts]
    scheduler.start()
    assert [reader.completion.completion_tokens for reader in readers] == [30] * len(prompts)
    begun = {int(chunk.tokens[0]): None for batch in backend.batches for chunk in batch if len(chunk.tokens) > 1}
    assert list(begun) == [ids[0] for ids in prompts]
    never = ask(scheduler, [9] * 99, max_tokens=30)[1]
    assert isinstance(never.error, NoRoomError)


def test_a_token_that_the_model_does_not_know_is_refused_before_it_meets_others(made: list[Scheduler]) -> None:
    scheduler = Scheduler(Uniform(), Letters(eos=()), CONTEXT)
    made.append(scheduler)
    unknown = Uniform.config.vocab_size
    with pytest.raises(UsageError, match=f"token {unknown:,}"):
        ask(scheduler, [5, unknown, 6])


def test_a_reader_that_is_gone_cancels(made: list[Scheduler]) -> None:
    backend = Uniform()
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(prefixes=0))
    made.append(scheduler)

    def gone(update: Update) -> None:
        raise RuntimeError("the loop is closed")

    scheduler.submit(Prompt([5]), SamplingParams(max_tokens=100), gone)
    scheduler.start()
    assert ask(scheduler, [6], max_tokens=50)[1].completion.completion_tokens == 50
    assert not backend.held
    assert scheduler.counts.cancelled == 1


@pytest.mark.parametrize("answers", [CROWD, CROWD + 1])
def test_many_answers_are_told_some_tokens_at_a_time_and_first_tokens_at_once(
    made: list[Scheduler], monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    monkeypatch.setattr("empu.engine.scheduler.TELL_S", 60.0)
    scheduler = Scheduler(Uniform(), Letters(eos=()), CONTEXT, Limits(prefixes=0))
    made.append(scheduler)
    readers = [ask(scheduler, [5, 6], max_tokens=20, seed=i, logprobs=1)[1] for i in range(answers)]
    scheduler.start()
    for reader in readers:
        completion = reader.completion
        pieces = [update for update in reader.updates if isinstance(update, Piece)]
        assert len(pieces[0].tokens) == 1
        assert [len(piece.tokens) for piece in pieces] == ([1] * 20 if answers == CROWD else [1, 19])
        assert "".join(piece.text for piece in pieces) == completion.text
        assert len(tokens(reader)) == 20
        assert sum((piece.logprobs for piece in pieces), ()) == completion.logprobs


def test_closing_drains_or_cancels() -> None:
    for drain, reason in ((True, "length"), (False, "cancelled")):
        backend = Uniform()
        backend.gate = threading.Event()
        scheduler = Scheduler(backend, Letters(eos=()), CONTEXT, Limits(slots=1))
        scheduler.start()
        readers = [ask(scheduler, [5 + i], max_tokens=30)[1] for i in range(3)]
        scheduler.close(drain=drain, timeout_s=0.0)
        backend.gate.set()
        assert [reader.completion.finish_reason for reader in readers] == [reason] * 3
        scheduler.close(timeout_s=20)
        with pytest.raises(EmpuError, match="being closed"):
            ask(scheduler, [5])
        assert not backend.held


def test_other_work_takes_its_turn_between_steps(made: list[Scheduler]) -> None:
    scheduler = Scheduler(Uniform(), Letters(eos=()), CONTEXT)
    made.append(scheduler)
    scheduler.start()
    _, reader = ask(scheduler, [5], max_tokens=150)
    assert scheduler.call(threading.current_thread).result(10).name == "empu-scheduler"
    with pytest.raises(ZeroDivisionError):
        scheduler.call(lambda: 1 // 0).result(10)
    assert reader.completion.completion_tokens == 150


def test_what_is_kept_makes_room_for_other_work(made: list[Scheduler]) -> None:
    backend = Uniform(room=100)
    scheduler = Scheduler(backend, Letters(eos=()), CONTEXT)
    made.append(scheduler)
    scheduler.start()
    assert ask(scheduler, [5] * 40, max_tokens=40)[1].completion.completion_tokens == 40
    assert backend.held, "the dialogue is kept"

    def work() -> int:
        sequence = backend.allocate(90)
        backend.release(sequence)
        return 7

    assert scheduler.call(work).result(10) == 7
    with pytest.raises(NoRoomError):
        scheduler.call(lambda: backend.allocate(101)).result(10)


def test_limits_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(UsageError):
        Limits(slots=0)
    with pytest.raises(UsageError):
        Limits(slots=16, step_tokens=16)


def test_answers_equal_those_of_the_language_model() -> None:
    text = Text(Letters(eos=(2,)), None, add_bos=True)
    alone = LanguageModel(TorchBackend(tiny_model()), text, checkpoint_path=Path("tiny"), context=CONTEXT)
    scheduler = Scheduler(TorchBackend(tiny_model()), text.tokenizer, CONTEXT, Limits(slots=5, step_tokens=11))
    asked = [("abcabc" * i + "xyz"[: i % 4], SamplingParams(seed=i, max_tokens=20, logprobs=2)) for i in range(1, 13)]
    readers = []
    for prompt, params in asked:
        readers.append(Reader())
        ids = text.tokenizer.encode(prompt, add_bos=True)
        scheduler.submit(Prompt(ids), params, readers[-1])
    scheduler.start()
    for (prompt, params), reader in zip(asked, readers, strict=True):
        expected, found = alone.stream(prompt, params).completion, reader.completion
        assert found.text == expected.text
        assert (found.finish_reason, found.completion_tokens) == (expected.finish_reason, expected.completion_tokens)
        assert found.logprobs is not None
        assert expected.logprobs is not None
        assert [item.token for item in found.logprobs] == [item.token for item in expected.logprobs]
        for ours, theirs in zip(found.logprobs, expected.logprobs, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)
    scheduler.close(timeout_s=20)
