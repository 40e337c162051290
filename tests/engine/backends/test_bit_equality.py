"""Batch invariance: a prompt gives the same bytes alone or in a batch, cached or not, in chunks of any size.

Prompts are parts of this project's example texts. The hashes of the logits after the prompt and after four greedy
tokens are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import open_checkpoint
from empu.engine.backends.native import NativeBackend, available_instruction_sets, open_native
from empu.engine.backends.options import KV_CACHE_TYPES, BackendOptions
from empu.engine.backends.protocol import Chunk, LogitsNeeded, SequenceId
from empu.text import load_text_processor
from tests.engine.backends.memory_checkpoint import FloatArray

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
NUM_DECODED = 4
PREFIX_LENGTH = 40
"""Common prefix of every other prompt, so that there is a prefix to cache."""

TokenArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Arrangement:
    """One way to run the same prompts."""

    batch_size: int = 1
    chunk_size: int = 4096
    use_prefix: bool = False
    """Whether prompts are forked from a sequence that holds their prefix."""
    shuffled: bool = False


ARRANGEMENTS = [
    *(Arrangement(batch_size, chunk_size) for batch_size, chunk_size in ((2, 64), (4, 128), (8, 256), (1, 512))),
    Arrangement(use_prefix=True),
    *(Arrangement(size, chunk, use_prefix=True, shuffled=True) for size, chunk in ((2, 512), (4, 64), (8, 100))),
]
VECTOR_SETS = [name for name in available_instruction_sets() if name != "scalar"]


def example_prompts(model: Path, count: int, max_length: int) -> list[TokenArray]:
    """``count`` parts of the examples, of 3 to ``max_length`` tokens; every other one begins with the common prefix."""
    with open_checkpoint(model) as checkpoint:
        tokenizer = load_text_processor(checkpoint.format, checkpoint.path, checkpoint.metadata).tokenizer
    files = sorted(path for path in EXAMPLES.rglob("*") if path.suffix in {".md", ".csv"})
    ids = [token for path in files for token in tokenizer.encode(path.read_text(encoding="utf-8")[:20_000])]
    random = np.random.default_rng(4)
    prompts = []
    for i in range(count):
        length = int(np.clip(random.lognormal(4.0, 1.0), 3, max_length))
        start = int(random.integers(0, len(ids) - length))
        body = ids[start : start + length]
        prompts.append(np.asarray(ids[:PREFIX_LENGTH] + body if i % 2 else body, dtype=np.int32))
    return prompts


def logit_hashes(backend: NativeBackend, prompts: Sequence[TokenArray], arrangement: Arrangement) -> list[str]:
    """Hash of each prompt's logits, when all prompts are run in this arrangement."""
    order = np.arange(len(prompts))
    if arrangement.shuffled:
        order = np.random.default_rng(arrangement.batch_size).permutation(len(prompts))
    hashes = [""] * len(prompts)
    root = backend.allocate(PREFIX_LENGTH)
    backend.forward([Chunk(root, prompts[1][:PREFIX_LENGTH], LogitsNeeded.NONE)])
    for start in range(0, len(order), arrangement.batch_size):
        group = {int(i): prompts[i] for i in order[start : start + arrangement.batch_size]}
        sequences: dict[int, SequenceId] = {}
        for i, prompt in group.items():
            capacity = len(prompt) + NUM_DECODED
            fork = arrangement.use_prefix and i % 2 == 1
            sequences[i] = backend.fork(root, PREFIX_LENGTH, capacity) if fork else backend.allocate(capacity)
        for i, rows in generate(backend, group, sequences, arrangement.chunk_size).items():
            hashes[i] = hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest()
        for sequence in sequences.values():
            backend.release(sequence)
    backend.release(root)
    return hashes


def generate(
    backend: NativeBackend, group: dict[int, TokenArray], sequences: dict[int, SequenceId], chunk_size: int
) -> dict[int, list[FloatArray]]:
    """Prefill in chunks, while prompts that are complete decode, as a scheduler does."""
    logits_of: dict[int, list[FloatArray]] = {i: [] for i in group}
    pending = {i: prompt[backend.length(sequences[i]) :] for i, prompt in group.items()}
    while pending:
        batch = []
        for i in pending:
            part, pending[i] = pending[i][:chunk_size], pending[i][chunk_size:]
            batch.append(Chunk(sequences[i], part, LogitsNeeded.NONE if len(pending[i]) else LogitsNeeded.LAST))
        for i, logits in zip(list(pending), backend.forward(batch), strict=True):
            if len(pending[i]):
                continue
            logits_of[i].append(logits[0])
            pending[i] = logits.argmax(axis=-1).astype(np.int32)
            if len(logits_of[i]) > NUM_DECODED:
                del pending[i]
    return logits_of


def check_all_arrangements(model: Path, count: int, max_length: int, instruction_set: str, kv_cache: str) -> None:
    prompts = example_prompts(model, count, max_length)
    options = BackendOptions(kv_cache=kv_cache)
    with open_checkpoint(model) as checkpoint:
        first = open_native(checkpoint, threads=2, instruction_set=instruction_set, options=options)
        expected = logit_hashes(first, prompts, Arrangement())
        assert len(set(expected)) > 0.9 * count, "the prompts differ and so must their logits"
        for threads in (1, 2):
            backend = open_native(checkpoint, threads=threads, instruction_set=instruction_set, options=options)
            for arrangement in ARRANGEMENTS:
                hashes = logit_hashes(backend, prompts, arrangement)
                differing = [i for i in range(count) if hashes[i] != expected[i]]
                assert not differing, (
                    f"{instruction_set}, cache {kv_cache}, {threads} threads, {arrangement}: prompts {differing} differ"
                )


@pytest.mark.parametrize(
    ("instruction_set", "kv_cache"), [*((name, "bf16") for name in VECTOR_SETS), (VECTOR_SETS[0], "q8")]
)
def test_eight_prompts_give_the_same_bytes_in_all_arrangements(
    default_gguf: Path, instruction_set: str, kv_cache: str
) -> None:
    max_length = 100 if (instruction_set, kv_cache) == (VECTOR_SETS[0], "bf16") else 30
    check_all_arrangements(default_gguf, 8, max_length, instruction_set, kv_cache)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kv_cache", KV_CACHE_TYPES)
@pytest.mark.parametrize("instruction_set", VECTOR_SETS)
def test_200_prompts_give_the_same_bytes_in_all_arrangements(
    default_gguf: Path, instruction_set: str, kv_cache: str
) -> None:
    check_all_arrangements(default_gguf, 200, 500, instruction_set, kv_cache)
