"""Keys and values in 8 bits: the same promises about bits, what it costs in the logits, and the memory it takes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import open_checkpoint
from empu.config import ModelConfig
from empu.engine import _native
from empu.engine.backends.native import NativeBackend, available_instructions, open_native
from empu.engine.backends.native_weights import build_model
from empu.engine.backends.protocol import Chunk, Want
from empu.engine.backends.registry import open_backend
from empu.engine.backends.storage import Storage
from empu.errors import EmpuError
from empu.text import load_text
from tests.engine.native_reference import (
    MemoryCheckpoint,
    Reference,
    divergence,
    in_floats,
    random_checkpoint,
    token_rows,
)
from tests.engine.test_native_backend import GROUPED, SHAPES, all_logits

SMALL = Storage(kv="q8")
INSTRUCTIONS = available_instructions()
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def opened(checkpoint: MemoryCheckpoint, instructions: str = "", threads: int = 1) -> NativeBackend:
    return open_native(checkpoint, threads=threads, instructions=instructions, storage=SMALL)


@pytest.mark.parametrize("shape", SHAPES)
def test_float_weights_give_nearly_the_reference_logits(shape: str) -> None:
    """Numbers of 8 bits are off by 1/254 of the largest of a head, which twice two layers add up."""
    checkpoint = random_checkpoint(SHAPES[shape])
    (tokens,) = token_rows([150], checkpoint.config.vocab_size)
    expected = Reference(checkpoint).logits(tokens)
    error = all_logits(opened(checkpoint, threads=2), tokens) - expected
    relative = float(np.sqrt((error**2).mean() / (expected**2).mean()))
    assert 1e-5 < relative < 0.02, f"{relative:.4f}"


@pytest.mark.parametrize("shape", [*SHAPES, "grouped"])
@pytest.mark.parametrize("instructions", INSTRUCTIONS[:-1])
def test_every_instruction_set_gives_the_bits_of_the_scalar_one(instructions: str, shape: str) -> None:
    checkpoint = random_checkpoint({**SHAPES, "grouped": GROUPED}[shape])
    (tokens,) = token_rows([140], checkpoint.config.vocab_size)
    scalar = all_logits(opened(checkpoint, "scalar"), tokens)
    wide = opened(checkpoint, instructions)
    np.testing.assert_array_equal(all_logits(wide, tokens), scalar)
    np.testing.assert_array_equal(all_logits(wide, tokens[:70], 1), scalar[:70])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_pieces_or_threads(threads: int) -> None:
    checkpoint = random_checkpoint(GROUPED, "Q4_1")
    (tokens,) = token_rows([333], GROUPED.vocab_size)
    whole = all_logits(opened(checkpoint), tokens)
    backend = opened(checkpoint, threads=threads)
    for pieces in (1, 2, 7, 64, 100, 256):
        np.testing.assert_array_equal(all_logits(backend, tokens, pieces), whole, err_msg=f"in pieces of {pieces}")


def test_truncated_and_forked_sequences_go_on_as_if_fresh() -> None:
    backend = opened(random_checkpoint(GROUPED, "Q4_1"))
    first, second = token_rows([150, 60], GROUPED.vocab_size)
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


def test_a_long_text_costs_little(default_gguf: Path) -> None:
    """Against the 16-bit cache: with float weights what the cache alone costs (0.0008 was measured), with the model's
    own also what the rounding of activations makes of any small difference (0.005).
    """
    tokens = words(default_gguf, 300)
    with open_checkpoint(default_gguf) as checkpoint:
        for weights, most in ((in_floats(checkpoint), 0.002), (checkpoint, 0.01)):
            wide, small = (all_logits(open_native(weights, storage=Storage(kv=kv)), tokens) for kv in ("bf16", "q8"))
            kl = divergence(wide, small)
            agreement = float((wide.argmax(axis=-1) == small.argmax(axis=-1)).mean())
            assert 0 < kl < most, f"KL {kl:.5f}, top-1 {agreement:.3f}"
            assert agreement > 0.9, f"KL {kl:.5f}, top-1 {agreement:.3f}"


def words(model: Path, count: int) -> npt.NDArray[np.int32]:
    """The beginning of this project's own example texts."""
    with open_checkpoint(model) as checkpoint:
        tokenizer = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata).tokenizer
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.rglob("*.md")))
    return np.asarray(tokenizer.encode(text[:20_000])[:count], dtype=np.int32)


def test_twice_as_many_tokens_fit() -> None:
    """All but the scales: 2 bytes for the 64 of a head."""
    checkpoint = random_checkpoint(GROUPED)
    wide, small = (open_native(checkpoint, storage=Storage(kv=kv)) for kv in ("bf16", "q8"))
    values = 2 * GROUPED.n_layers * GROUPED.n_kv_heads
    assert wide.cache_bytes_per_token == values * 64 * 2
    assert small.cache_bytes_per_token == values * (64 + 2)
    model = build_model(checkpoint)
    limit = 64 * 10 * wide.cache_bytes_per_token
    for kv, blocks in (("bf16", 10), ("q8", 19)):
        backend = NativeBackend(GROUPED, model, kv=kv, cache_bytes=limit)
        backend.allocate(64 * blocks)
        with pytest.raises(EmpuError, match="shorter context or fewer sequences"):
            backend.allocate(1)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells a process its memory so")
def test_the_memory_is_what_was_said() -> None:
    """In processes of their own: what another test leaves behind is given back at any time, and counts there."""
    with ProcessPoolExecutor(mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        taken = {}
        for kv in ("bf16", "q8"):
            taken[kv], said = processes.submit(memory_of_a_long_sequence, kv).result()
            assert 0.8 * said < taken[kv] < 1.3 * said + (4 << 20), (kv, taken[kv], said)
    assert taken["q8"] < 0.65 * taken["bf16"]


def memory_of_a_long_sequence(kv: Literal["bf16", "q8"]) -> tuple[int, int]:
    """The bytes that 2,048 positions take in this process, and those that the engine says they take."""
    config = ModelConfig(
        n_layers=8, dim=64, n_heads=8, n_kv_heads=8, head_dim=128, ffn_dim=32, vocab_size=32, context_length=4096
    )
    backend = open_native(random_checkpoint(config), threads=1, storage=Storage(kv=kv))
    backend.forward([Chunk(backend.allocate(64), np.zeros(64, dtype=np.int32))])
    before = resident()
    sequence = backend.allocate(2048)
    backend.forward([Chunk(sequence, np.zeros(2048, dtype=np.int32), Want.NONE)])
    return resident() - before, 2048 * backend.cache_bytes_per_token


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_other_words_are_refused(default_gguf: Path) -> None:
    with pytest.raises(EmpuError, match="kept as 'q4'; there are bf16, q8"):
        Storage(kv="q4")
    with open_checkpoint(default_gguf) as checkpoint, pytest.raises(EmpuError, match="leave --kv"):
        open_backend(checkpoint, engine="torch", storage=SMALL)
    frequencies = np.zeros(GROUPED.head_dim // 2, dtype=np.float32)
    model = build_model(random_checkpoint(GROUPED))
    with pytest.raises(_native.Error, match="no kind of cache called q4"):
        _native.Engine(model=model, frequencies=frequencies, threads=1, ops="", cache="q4", cache_limit=1)
