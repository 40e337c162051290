"""The native engine against its slow twin in numpy, and what it promises of bits, caches and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import open_checkpoint
from empu.config import ModelConfig, RopeScaling, preset
from empu.engine.backends import native
from empu.engine.backends.native import NativeBackend, available_instructions, open_native, oracle_of
from empu.engine.backends.native_weights import build_model, packed_bytes
from empu.engine.backends.protocol import Chunk, SequenceId, Want
from empu.errors import CheckpointError, EmpuError, UsageError
from tests.engine.native_reference import Reference, divergence, random_checkpoint, token_rows

TINY = preset("tiny")
GROUPED = ModelConfig(
    n_layers=2, dim=256, n_heads=8, n_kv_heads=2, head_dim=64, ffn_dim=512, vocab_size=200, tie_embeddings=True
)
SHAPES = {
    "tiny": TINY,
    "tied": TINY.replace(tie_embeddings=True),
    "odd sizes": ModelConfig(
        n_layers=2, dim=20, n_heads=3, n_kv_heads=1, head_dim=10, ffn_dim=50, vocab_size=37, context_length=256
    ),
    "one head": TINY.replace(n_heads=1, n_kv_heads=1, head_dim=128),
    "sliding window": TINY.replace(sliding_window=40),
    "scaled rotation": TINY.replace(rope_scaling=RopeScaling(original_context=64)),
}
TYPES = ["Q4_0", "Q4_1", "Q4_K", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q5_K", "Q6_K", "F16", "BF16"]
INSTRUCTIONS = available_instructions()

ROOT = Path(__file__).resolve().parents[2]
Floats = npt.NDArray[np.float32]


def all_logits(backend: NativeBackend, tokens: npt.NDArray[np.int32], pieces: int = 10_000) -> Floats:
    """(T, V), the tokens being read some at a time."""
    sequence = backend.allocate(len(tokens))
    rows = []
    for start in range(0, len(tokens), pieces):
        rows += backend.forward([Chunk(sequence, tokens[start : start + pieces], Want.ALL)])
    backend.release(sequence)
    return np.concatenate(rows)


@pytest.mark.parametrize("shape", SHAPES)
def test_float_weights_give_the_reference_logits(shape: str) -> None:
    """Attention multiplies numbers of bfloat16: 2^-9 of about 1, and a few such roundings add up."""
    checkpoint = random_checkpoint(SHAPES[shape])
    (tokens,) = token_rows([150], checkpoint.config.vocab_size)
    expected = Reference(checkpoint).logits(tokens)
    got = all_logits(open_native(checkpoint, threads=2), tokens)
    np.testing.assert_allclose(got, expected, atol=0.015 * float(np.abs(expected).max()))
    assert np.sqrt(((got - expected) ** 2).mean() / (expected**2).mean()) < 0.006


@pytest.mark.parametrize("type_name", TYPES)
def test_stored_types_give_the_logits_of_their_unpacked_weights(type_name: str) -> None:
    """What is left is the rounding of activations to 8 bits: some 0.5 %, nine times, and what norms amplify."""
    checkpoint = random_checkpoint(GROUPED, type_name)
    (tokens,) = token_rows([80], GROUPED.vocab_size)
    expected = Reference(checkpoint).logits(tokens)
    got = all_logits(open_native(checkpoint, threads=2), tokens)
    error = float(np.sqrt(((got - expected) ** 2).mean() / (expected**2).mean()))
    assert error < 0.04, f"{type_name}: relative error {error:.4f}"


@pytest.mark.parametrize("instructions", INSTRUCTIONS[:-1])
@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0", "F32"])
def test_every_instruction_set_gives_the_bits_of_the_scalar_one(instructions: str, type_name: str) -> None:
    checkpoint = random_checkpoint(GROUPED, type_name)
    (tokens,) = token_rows([140], GROUPED.vocab_size)
    scalar = all_logits(open_native(checkpoint, threads=1, instructions=oracle_of(instructions)), tokens)
    wide = open_native(checkpoint, threads=1, instructions=instructions)
    np.testing.assert_array_equal(all_logits(wide, tokens), scalar)
    np.testing.assert_array_equal(all_logits(wide, tokens[:70], 1), scalar[:70])


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_odd_sizes_give_the_same_bits_on_every_instruction_set(instructions: str) -> None:
    checkpoint = random_checkpoint(SHAPES["odd sizes"])
    (tokens,) = token_rows([70], 37)
    scalar = all_logits(open_native(checkpoint, threads=1, instructions=oracle_of(instructions)), tokens)
    np.testing.assert_array_equal(all_logits(open_native(checkpoint, instructions=instructions), tokens), scalar)


@pytest.mark.parametrize("type_name", ["Q4_1", "F32"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_pieces_or_threads(type_name: str, threads: int) -> None:
    checkpoint = random_checkpoint(GROUPED, type_name)
    (tokens,) = token_rows([333], GROUPED.vocab_size)
    whole = all_logits(open_native(checkpoint, threads=1), tokens)
    backend = open_native(checkpoint, threads=threads)
    for pieces in (1, 2, 3, 7, 64, 100, 256, 1000):
        np.testing.assert_array_equal(all_logits(backend, tokens, pieces), whole, err_msg=f"in pieces of {pieces}")


@pytest.mark.parametrize("count", [2, 4, 8, 11])
def test_bits_do_not_depend_on_the_company_in_a_batch(count: int) -> None:
    checkpoint = random_checkpoint(GROUPED, "Q4_1")
    backend = open_native(checkpoint, threads=2)
    prompts = list(token_rows([1 + 37 * i % 200 for i in range(count)], GROUPED.vocab_size))
    alone = [all_logits(backend, prompt) for prompt in prompts]
    order = np.random.default_rng(count).permutation(count)
    sequences = {i: backend.allocate(len(prompts[i])) for i in order}
    # First parts of very different lengths, then one token at a time until each is through, in changing order.
    got: dict[int, list[Floats]] = {i: [] for i in order}
    done = dict.fromkeys(order, 0)
    step = 0
    while any(done[i] < len(prompts[i]) for i in order):
        active = [i for i in np.roll(order, step) if done[i] < len(prompts[i])]
        taken = {i: max(1, len(prompts[i]) - 5 * (n + 1)) if step == 0 else 1 for n, i in enumerate(active)}
        batch = [Chunk(sequences[i], prompts[i][done[i] : done[i] + taken[i]], Want.ALL) for i in active]
        for i, rows in zip(active, backend.forward(batch), strict=True):
            got[i].append(rows)
            done[i] += taken[i]
        step += 1
    for i in order:
        np.testing.assert_array_equal(np.concatenate(got[i]), alone[i], err_msg=f"prompt {i}")


def test_wants_choose_the_rows() -> None:
    backend = open_native(random_checkpoint(TINY))
    (tokens,) = token_rows([300], TINY.vocab_size)
    tokens = tokens[:200]
    everything = all_logits(backend, tokens)
    none, last, some = (backend.allocate(256) for _ in range(3))
    rows = backend.forward(
        [Chunk(none, tokens, Want.NONE), Chunk(last, tokens, Want.LAST), Chunk(some, tokens[:70], Want.ALL)]
    )
    assert [row.shape for row in rows] == [(0, 320), (1, 320), (70, 320)]
    np.testing.assert_array_equal(rows[1], everything[-1:])
    np.testing.assert_array_equal(rows[2], everything[:70])
    assert [backend.length(sequence) for sequence in (none, last, some)] == [200, 200, 70]
    assert backend.forward([]) == []


def test_truncated_and_forked_sequences_go_on_as_if_fresh() -> None:
    backend = open_native(random_checkpoint(TINY, "Q4_1"))
    first, second = token_rows([150, 60], TINY.vocab_size)
    for cut in (0, 1, 63, 64, 100, 128):
        expected = all_logits(backend, np.concatenate([first[:cut], second]))[cut:]
        original = backend.allocate(256)
        backend.forward([Chunk(original, first)])
        forked = backend.fork(original, cut, 200)
        (rows,) = backend.forward([Chunk(forked, second, Want.ALL)])
        np.testing.assert_array_equal(rows, expected, err_msg=f"forked at {cut}")
        (again,) = backend.forward([Chunk(original, second[:20], Want.ALL)])
        np.testing.assert_array_equal(again, all_logits(backend, np.concatenate([first, second[:20]]))[150:])
        backend.truncate(original, cut)
        (rows,) = backend.forward([Chunk(original, second, Want.ALL)])
        np.testing.assert_array_equal(rows, expected, err_msg=f"cut to {cut}")
        backend.release(original)
        backend.release(forked)


def refusals(backend: NativeBackend, held: SequenceId) -> dict[str, list[Chunk]]:
    good, none = np.array([1, 2], dtype=np.int32), np.array([], dtype=np.int32)
    return {
        "unknown": [Chunk(SequenceId(99), good)],
        "above the vocabulary": [Chunk(held, np.array([1, TINY.vocab_size], dtype=np.int32))],
        "below the vocabulary": [Chunk(held, np.array([-1], dtype=np.int32))],
        "beyond 32 bits": [Chunk(held, np.array([1 << 32], dtype=np.int64))],
        "twice": [Chunk(held, good), Chunk(held, good)],
        "too long": [Chunk(held, np.ones(21, dtype=np.int32))],
        "empty": [Chunk(held, none)],
        "two rows": [Chunk(held, good.reshape(1, 2))],
        "one good and one bad": [Chunk(held, good), Chunk(SequenceId(99), good)],
    }


def test_what_is_refused_changes_nothing() -> None:
    backend = open_native(random_checkpoint(TINY))
    (tokens,) = token_rows([12], TINY.vocab_size)
    held = backend.allocate(30)
    backend.forward([Chunk(held, tokens[:10])])
    for what, batch in refusals(backend, held).items():
        with pytest.raises(UsageError):
            backend.forward(batch)
        assert backend.length(held) == 10, what
    (rows,) = backend.forward([Chunk(held, tokens[10:], Want.ALL)])
    np.testing.assert_array_equal(rows, all_logits(backend, tokens)[10:])


def test_bad_lengths_and_ids_are_refused() -> None:
    backend = open_native(random_checkpoint(TINY), context=64)
    held = backend.allocate(10)
    for call in (
        lambda: backend.allocate(0),
        lambda: backend.allocate(65),
        lambda: backend.truncate(held, 1),
        lambda: backend.truncate(held, -1),
        lambda: backend.fork(held, 1, 10),
        lambda: backend.fork(held, 0, 65),
        lambda: backend.length(SequenceId(7)),
        lambda: backend.release(SequenceId(7)),
    ):
        with pytest.raises(UsageError):
            call()
    backend.release(held)
    with pytest.raises(UsageError, match="released"):
        backend.length(held)


def test_caches_beyond_the_memory_are_refused_until_others_are_released() -> None:
    checkpoint = random_checkpoint(TINY)
    block = 64 * TINY.kv_bytes_per_token()
    backend = NativeBackend(TINY, build_model(checkpoint), cache_bytes=3 * block)
    first = backend.allocate(128)
    backend.allocate(10)
    with pytest.raises(EmpuError, match="shorter context or fewer sequences"):
        backend.allocate(1)
    backend.release(first)
    backend.allocate(100)


def test_a_forked_process_goes_on_alone_with_the_same_bits() -> None:
    """The engine's threads do not exist there; neither its use nor its end may wait for them."""
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr


FORKED = """
import os, warnings
import numpy as np
from tests.engine.native_reference import random_checkpoint
from empu.config import preset
from empu.engine.backends.protocol import Chunk
from empu.engine.backends.native import open_native

backend = open_native(random_checkpoint(preset("tiny")), threads=3)
held, again = backend.allocate(64), backend.allocate(64)
tokens = np.arange(20, dtype=np.int32)
(expected,) = backend.forward([Chunk(held, tokens)])
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    (rows,) = backend.forward([Chunk(again, tokens)])
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
    # An infinite scale where a block has one: at its end in Q6_K, else in front.
    damaged = stored.data.copy()
    infinite = {"F32": b"\0\0\x80\x7f", "BF16": b"\x80\x7f"}.get(type_name, b"\0\x7c")
    at = 40 * block + (block - 2 if type_name == "Q6_K" else 0)
    damaged.reshape(-1)[at : at + len(infinite)] = np.frombuffer(infinite, dtype=np.uint8)
    checkpoint.stored[stored.name] = replace(stored, data=damaged)
    with pytest.raises(CheckpointError, match=r"layers\.1\.feed_forward\.up\.weight holds a number that is not finite"):
        open_native(checkpoint, threads=1)


def test_weights_that_do_not_fit_are_refused() -> None:
    checkpoint = random_checkpoint(TINY)
    del checkpoint.stored["layers.1.attention.k.weight"]
    with pytest.raises(EmpuError, match=r"layers\.1\.attention\.k\.weight"):
        open_native(checkpoint)
    wrong = random_checkpoint(TINY)
    wrong.config = TINY.replace(ffn_dim=128)
    with pytest.raises(EmpuError, match="expected"):
        open_native(wrong)
    with pytest.raises(UsageError, match="instruction set"):
        open_native(random_checkpoint(TINY), instructions="abacus")


def test_threads_that_cannot_be_had_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="from 1 to 256"):
        open_native(random_checkpoint(TINY), threads=257)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(384))
    assert open_native(random_checkpoint(TINY)).threads == 256
    code = (
        "import resource; from tests.engine import test_native_backend as here; from empu.errors import EmpuError\n"
        "checkpoint = here.random_checkpoint(here.TINY)\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + (400 << 20),) * 2)  # of the stacks, 8 MiB each, some fit\n"
        "try: here.open_native(checkpoint, threads=256)\n"
        "except EmpuError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "use fewer with --threads" in done.stdout


def test_weights_beyond_the_memory_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_free_memory", lambda: 100_000)
    with pytest.raises(EmpuError, match="fewer bits"):
        open_native(random_checkpoint(TINY))


@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0", "F32"])
def test_the_packed_size_is_known_beforehand(type_name: str) -> None:
    checkpoint = random_checkpoint(GROUPED, type_name)
    packed = build_model(checkpoint).weight_bytes()
    assert packed_bytes(checkpoint) <= packed <= 1.05 * packed_bytes(checkpoint)


def test_the_default_model_agrees_with_float32_on_its_own_weights(default_gguf: Path) -> None:
    checkpoint = open_checkpoint(default_gguf)
    backend = open_native(checkpoint)
    text = np.array(TEXT, dtype=np.int32)
    expected = Reference(checkpoint).logits(text)
    got = all_logits(backend, text)
    agreement = float((expected.argmax(axis=-1) == got.argmax(axis=-1)).mean())
    kl = divergence(expected, got)
    assert kl < 0.01, f"KL {kl:.4f}, top-1 {agreement:.3f}"
    assert agreement > 0.9, f"KL {kl:.4f}, top-1 {agreement:.3f}"
    np.testing.assert_array_equal(all_logits(backend, text, 5), got)


TEXT = [
    504,
    808,
    303,
    11935,
    10483,
    592,
    1440,
    9935,
    335,
    13083,
    33959,
    28,
    284,
    22088,
    3485,
    288,
    2505,
    582,
    4051,
    429,
    1372,
    411,
    260,
    1230,
    282,
    7751,
    30,
    1550,
    4688,
    7761,
    2422,
    28,
    260,
    20067,
    761,
    288,
    325,
    2269,
    429,
    16928,
    2025,
    28,
    588,
    7460,
    2118,
    4433,
    618,
    13413,
    338,
    18178,
    260,
    1420,
    282,
    253,
    1165,
    17520,
    618,
    253,
    6260,
    11225,
    30,
]
"""Two sentences about lighthouses in the vocabulary of the default model."""
