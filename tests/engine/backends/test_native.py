"""The native backend against its numpy reference, and its guarantees about bits, caches and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from empu.checkpoint import open_checkpoint
from empu.engine.backends import native
from empu.engine.backends.native import (
    NativeBackend,
    available_instruction_sets,
    open_native,
    reference_instruction_set,
)
from empu.engine.backends.native_weights import build_native_model, packed_size_bytes
from empu.engine.backends.protocol import Chunk, LogitsNeeded, SequenceId
from empu.errors import CheckpointError, EmpuError, UsageError
from tests.engine.backends.default_model import LIGHTHOUSE_TEXT
from tests.engine.backends.memory_checkpoint import (
    GROUPED,
    SHAPES,
    TINY,
    FloatArray,
    MemoryCheckpoint,
    all_logits,
    random_checkpoint,
    random_prompts,
)
from tests.engine.backends.numpy_reference import NumpyReference, kl_divergence

TYPES = ["Q4_0", "Q4_1", "Q4_K", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q5_K", "Q6_K", "F16", "BF16"]
INSTRUCTION_SETS = available_instruction_sets()

ROOT = Path(__file__).resolve().parents[3]


def open_reference(checkpoint: MemoryCheckpoint, instruction_set: str) -> NativeBackend:
    """The portable instruction set with the same bits, on one thread."""
    return open_native(checkpoint, threads=1, instruction_set=reference_instruction_set(instruction_set))


@pytest.mark.parametrize("shape", SHAPES)
def test_float_weights_give_the_reference_logits(shape: str) -> None:
    """Attention multiplies bfloat16 values: each rounding is 2^-9 of about 1, and a few of them add up."""
    checkpoint = random_checkpoint(SHAPES[shape])
    (tokens,) = random_prompts([150], checkpoint.config.vocab_size)
    expected = NumpyReference(checkpoint).logits(tokens)
    logits = all_logits(open_native(checkpoint, threads=2), tokens)
    np.testing.assert_allclose(logits, expected, atol=0.015 * float(np.abs(expected).max()))
    assert np.sqrt(((logits - expected) ** 2).mean() / (expected**2).mean()) < 0.006


@pytest.mark.parametrize("type_name", TYPES)
def test_stored_types_give_the_logits_of_their_unpacked_weights(type_name: str) -> None:
    """The error is the rounding of activations to 8 bits: about 0.5 %, nine times, amplified by norms."""
    checkpoint = random_checkpoint(GROUPED, type_name)
    (tokens,) = random_prompts([80], GROUPED.vocab_size)
    expected = NumpyReference(checkpoint).logits(tokens)
    logits = all_logits(open_native(checkpoint, threads=2), tokens)
    error = float(np.sqrt(((logits - expected) ** 2).mean() / (expected**2).mean()))
    assert error < 0.04, f"{type_name}: relative error {error:.4f}"


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS[:-1])
@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0", "F32"])
def test_every_instruction_set_gives_the_bits_of_the_scalar_one(instruction_set: str, type_name: str) -> None:
    checkpoint = random_checkpoint(GROUPED, type_name)
    (tokens,) = random_prompts([140], GROUPED.vocab_size)
    scalar = all_logits(open_reference(checkpoint, instruction_set), tokens)
    backend = open_native(checkpoint, threads=1, instruction_set=instruction_set)
    np.testing.assert_array_equal(all_logits(backend, tokens), scalar)
    np.testing.assert_array_equal(all_logits(backend, tokens[:70], 1), scalar[:70])


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_odd_sizes_give_the_same_bits_on_every_instruction_set(instruction_set: str) -> None:
    checkpoint = random_checkpoint(SHAPES["odd sizes"])
    (tokens,) = random_prompts([70], 37)
    scalar = all_logits(open_reference(checkpoint, instruction_set), tokens)
    np.testing.assert_array_equal(all_logits(open_native(checkpoint, instruction_set=instruction_set), tokens), scalar)


@pytest.mark.parametrize("type_name", ["Q4_1", "F32"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_chunk_size_or_threads(type_name: str, threads: int) -> None:
    checkpoint = random_checkpoint(GROUPED, type_name)
    (tokens,) = random_prompts([333], GROUPED.vocab_size)
    whole = all_logits(open_native(checkpoint, threads=1), tokens)
    backend = open_native(checkpoint, threads=threads)
    for chunk_size in (1, 2, 3, 7, 64, 100, 256, 1000):
        chunked = all_logits(backend, tokens, chunk_size)
        np.testing.assert_array_equal(chunked, whole, err_msg=f"in chunks of {chunk_size}")


@pytest.mark.parametrize("num_sequences", [2, 4, 8, 11])
def test_bits_do_not_depend_on_the_rest_of_the_batch(num_sequences: int) -> None:
    checkpoint = random_checkpoint(GROUPED, "Q4_1")
    backend = open_native(checkpoint, threads=2)
    prompts = list(random_prompts([1 + 37 * i % 200 for i in range(num_sequences)], GROUPED.vocab_size))
    alone = [all_logits(backend, prompt) for prompt in prompts]
    order = np.random.default_rng(num_sequences).permutation(num_sequences)
    sequences = {i: backend.allocate(len(prompts[i])) for i in order}
    # First chunks of very different lengths, then one token at a time until each prompt is done, in changing order.
    logits: dict[int, list[FloatArray]] = {i: [] for i in order}
    done = dict.fromkeys(order, 0)
    step = 0
    while any(done[i] < len(prompts[i]) for i in order):
        active = [i for i in np.roll(order, step) if done[i] < len(prompts[i])]
        counts = {i: max(1, len(prompts[i]) - 5 * (n + 1)) if step == 0 else 1 for n, i in enumerate(active)}
        batch = [Chunk(sequences[i], prompts[i][done[i] : done[i] + counts[i]], LogitsNeeded.ALL) for i in active]
        for i, rows in zip(active, backend.forward(batch), strict=True):
            logits[i].append(rows)
            done[i] += counts[i]
        step += 1
    for i in order:
        np.testing.assert_array_equal(np.concatenate(logits[i]), alone[i], err_msg=f"prompt {i}")


def test_only_the_needed_logits_are_returned() -> None:
    backend = open_native(random_checkpoint(TINY))
    (tokens,) = random_prompts([300], TINY.vocab_size)
    tokens = tokens[:200]
    all_rows = all_logits(backend, tokens)
    none, last, every = (backend.allocate(256) for _ in range(3))
    rows = backend.forward(
        [
            Chunk(none, tokens, LogitsNeeded.NONE),
            Chunk(last, tokens, LogitsNeeded.LAST),
            Chunk(every, tokens[:70], LogitsNeeded.ALL),
        ]
    )
    assert [row.shape for row in rows] == [(0, 320), (1, 320), (70, 320)]
    np.testing.assert_array_equal(rows[1], all_rows[-1:])
    np.testing.assert_array_equal(rows[2], all_rows[:70])
    assert [backend.length(sequence) for sequence in (none, last, every)] == [200, 200, 70]
    assert backend.forward([]) == []


def test_truncated_and_forked_sequences_continue_like_fresh_ones() -> None:
    check_truncate_and_fork(open_native(random_checkpoint(TINY, "Q4_1")))


def check_truncate_and_fork(backend: NativeBackend) -> None:
    first, second = random_prompts([150, 60], backend.config.vocab_size)
    for cut in (0, 1, 63, 64, 100, 128):
        expected = all_logits(backend, np.concatenate([first[:cut], second]))[cut:]
        original = backend.allocate(256)
        backend.forward([Chunk(original, first)])
        forked = backend.fork(original, cut, 200)
        (rows,) = backend.forward([Chunk(forked, second, LogitsNeeded.ALL)])
        np.testing.assert_array_equal(rows, expected, err_msg=f"forked at {cut}")
        (continued,) = backend.forward([Chunk(original, second[:20], LogitsNeeded.ALL)])
        np.testing.assert_array_equal(continued, all_logits(backend, np.concatenate([first, second[:20]]))[150:])
        backend.truncate(original, cut)
        (rows,) = backend.forward([Chunk(original, second, LogitsNeeded.ALL)])
        np.testing.assert_array_equal(rows, expected, err_msg=f"cut to {cut}")
        backend.release(original)
        backend.release(forked)


def invalid_batches(sequence: SequenceId) -> dict[str, list[Chunk]]:
    valid, empty = np.array([1, 2], dtype=np.int32), np.array([], dtype=np.int32)
    return {
        "unknown": [Chunk(SequenceId(99), valid)],
        "above the vocabulary": [Chunk(sequence, np.array([1, TINY.vocab_size], dtype=np.int32))],
        "below the vocabulary": [Chunk(sequence, np.array([-1], dtype=np.int32))],
        "beyond 32 bits": [Chunk(sequence, np.array([1 << 32], dtype=np.int64))],
        "twice": [Chunk(sequence, valid), Chunk(sequence, valid)],
        "too long": [Chunk(sequence, np.ones(21, dtype=np.int32))],
        "empty": [Chunk(sequence, empty)],
        "two rows": [Chunk(sequence, valid.reshape(1, 2))],
        "one valid and one invalid": [Chunk(sequence, valid), Chunk(SequenceId(99), valid)],
    }


def test_a_refused_batch_changes_nothing() -> None:
    backend = open_native(random_checkpoint(TINY))
    (tokens,) = random_prompts([12], TINY.vocab_size)
    sequence = backend.allocate(30)
    backend.forward([Chunk(sequence, tokens[:10])])
    for case, batch in invalid_batches(sequence).items():
        with pytest.raises(UsageError):
            backend.forward(batch)
        assert backend.length(sequence) == 10, case
    (rows,) = backend.forward([Chunk(sequence, tokens[10:], LogitsNeeded.ALL)])
    np.testing.assert_array_equal(rows, all_logits(backend, tokens)[10:])


def test_invalid_lengths_and_ids_are_refused() -> None:
    backend = open_native(random_checkpoint(TINY), context_length=64)
    sequence = backend.allocate(10)
    for call in (
        lambda: backend.allocate(0),
        lambda: backend.allocate(65),
        lambda: backend.truncate(sequence, 1),
        lambda: backend.truncate(sequence, -1),
        lambda: backend.fork(sequence, 1, 10),
        lambda: backend.fork(sequence, 0, 65),
        lambda: backend.length(SequenceId(7)),
        lambda: backend.release(SequenceId(7)),
    ):
        with pytest.raises(UsageError):
            call()
    backend.release(sequence)
    with pytest.raises(UsageError, match="released"):
        backend.length(sequence)


def test_a_full_cache_refuses_until_sequences_are_released() -> None:
    checkpoint = random_checkpoint(TINY)
    block = 64 * TINY.kv_bytes_per_token()
    backend = NativeBackend(TINY, build_native_model(checkpoint), max_cache_bytes=3 * block)
    first = backend.allocate(128)
    backend.allocate(10)
    with pytest.raises(EmpuError, match="shorter context or fewer sequences"):
        backend.allocate(1)
    backend.release(first)
    backend.allocate(100)


def test_a_forked_process_computes_the_same_bits() -> None:
    """The engine's threads do not exist in the child. Neither its use nor its exit may wait for them."""
    command = [sys.executable, "-c", FORK_PROGRAM]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr


FORK_PROGRAM = """
import os, warnings
import numpy as np
from tests.engine.backends.memory_checkpoint import random_checkpoint
from empu.config import preset
from empu.engine.backends.protocol import Chunk
from empu.engine.backends.native import open_native

backend = open_native(random_checkpoint(preset("tiny")), threads=3)
sequence, other = backend.allocate(64), backend.allocate(64)
tokens = np.arange(20, dtype=np.int32)
(expected,) = backend.forward([Chunk(sequence, tokens)])
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    (rows,) = backend.forward([Chunk(other, tokens)])
    same = bool((rows == expected).all())
    del backend
    os._exit(0 if same else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q4_K", "Q8_0", "Q6_K", "BF16", "F32"])
def test_weights_that_are_not_finite_are_refused_by_name(type_name: str) -> None:
    checkpoint = random_checkpoint(GROUPED, type_name)
    stored = checkpoint.stored["layers.1.feed_forward.up.weight"]
    block = stored.type.block_bytes
    # Make a scale infinite: it stands at the end of a block in Q6_K, otherwise at its beginning.
    damaged = stored.data.copy()
    infinite = {"F32": b"\0\0\x80\x7f", "BF16": b"\x80\x7f"}.get(type_name, b"\0\x7c")
    offset = 40 * block + (block - 2 if type_name == "Q6_K" else 0)
    damaged.reshape(-1)[offset : offset + len(infinite)] = np.frombuffer(infinite, dtype=np.uint8)
    checkpoint.stored[stored.name] = replace(stored, data=damaged)
    with pytest.raises(CheckpointError, match=r"layers\.1\.feed_forward\.up\.weight holds a value that is not finite"):
        open_native(checkpoint, threads=1)


def test_missing_and_misshapen_weights_are_refused() -> None:
    checkpoint = random_checkpoint(TINY)
    del checkpoint.stored["layers.1.attention.k.weight"]
    with pytest.raises(EmpuError, match=r"layers\.1\.attention\.k\.weight"):
        open_native(checkpoint)
    wrong = random_checkpoint(TINY)
    wrong.config = TINY.replace(ffn_dim=128)
    with pytest.raises(EmpuError, match="expected"):
        open_native(wrong)
    with pytest.raises(UsageError, match="instruction set"):
        open_native(random_checkpoint(TINY), instruction_set="abacus")


def test_too_many_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="from 1 to 256"):
        open_native(random_checkpoint(TINY), threads=257)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(384))
    assert open_native(random_checkpoint(TINY)).threads == 256
    code = (
        "import resource; from tests.engine.backends import test_native as here; from empu.errors import EmpuError\n"
        "checkpoint = here.random_checkpoint(here.TINY)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)  # of the stacks, 8 MiB each, every fit\n"
        "try: here.open_native(checkpoint, threads=256)\n"
        "except EmpuError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "use fewer with --threads" in done.stdout


def test_weights_larger_than_the_memory_are_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_available_memory", lambda: 100_000)
    with pytest.raises(EmpuError, match="fewer bits"):
        open_native(random_checkpoint(TINY))


@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0", "F32"])
def test_the_packed_size_is_known_before_packing(type_name: str) -> None:
    checkpoint = random_checkpoint(GROUPED, type_name)
    packed = build_native_model(checkpoint).weight_bytes()
    assert packed_size_bytes(checkpoint) <= packed <= 1.05 * packed_size_bytes(checkpoint)


def test_the_default_model_agrees_with_float32_on_its_own_weights(default_gguf: Path) -> None:
    checkpoint = open_checkpoint(default_gguf)
    backend = open_native(checkpoint)
    text = np.array(LIGHTHOUSE_TEXT, dtype=np.int32)
    expected = NumpyReference(checkpoint).logits(text)
    logits = all_logits(backend, text)
    agreement = float((expected.argmax(axis=-1) == logits.argmax(axis=-1)).mean())
    kl = kl_divergence(expected, logits)
    assert kl < 0.01, f"KL {kl:.4f}, top-1 {agreement:.3f}"
    assert agreement > 0.9, f"KL {kl:.4f}, top-1 {agreement:.3f}"
    np.testing.assert_array_equal(all_logits(backend, text, 5), logits)
