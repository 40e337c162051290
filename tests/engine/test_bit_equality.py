"""The promise that no peer makes: one prompt gives the same bytes alone and in company, cached and not, cut anyhow.

Prompts are pieces of this project's own example texts. Of each, the logits behind the prompt and behind four greedy
tokens are compared by their hash.
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
from empu.engine.backends.native import NativeBackend, available_instructions, open_native
from empu.engine.backends.protocol import Chunk, SequenceId, Want
from empu.engine.backends.storage import CACHES, Storage
from empu.text import load_text

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DECODED = 4
SHARED = 40
"""Tokens that every other prompt begins with, so that there is a prefix to cache."""

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Arrangement:
    """One way to run the same prompts."""

    batch: int = 1
    chunk: int = 4096
    cached: bool = False
    """Whether each prompt's beginning comes out of another sequence."""
    shuffled: bool = False


ARRANGEMENTS = [
    *(Arrangement(batch=batch, chunk=chunk) for batch, chunk in ((2, 64), (4, 128), (8, 256), (1, 512))),
    Arrangement(cached=True),
    *(Arrangement(batch, chunk, cached=True, shuffled=True) for batch, chunk in ((2, 512), (4, 64), (8, 100))),
]
WIDE = [name for name in available_instructions() if name != "scalar"]


def prompts(model: Path, count: int, longest: int) -> list[Tokens]:
    """``count`` pieces of text of 3 to ``longest`` tokens; every other one begins with the same words."""
    with open_checkpoint(model) as checkpoint:
        tokenizer = load_text(checkpoint.format, checkpoint.path, checkpoint.metadata).tokenizer
    files = sorted(path for path in EXAMPLES.rglob("*") if path.suffix in {".md", ".csv"})
    ids = [token for path in files for token in tokenizer.encode(path.read_text(encoding="utf-8")[:20_000])]
    random = np.random.default_rng(4)
    found = []
    for i in range(count):
        length = int(np.clip(random.lognormal(4.0, 1.0), 3, longest))
        start = int(random.integers(0, len(ids) - length))
        body = ids[start : start + length]
        found.append(np.asarray(ids[:SHARED] + body if i % 2 else body, dtype=np.int32))
    return found


def digests(backend: NativeBackend, prompts: Sequence[Tokens], how: Arrangement) -> list[str]:
    """For each prompt the hash of its logits when all are run in the given way."""
    order = np.random.default_rng(how.batch).permutation(len(prompts)) if how.shuffled else np.arange(len(prompts))
    found = [""] * len(prompts)
    root = backend.allocate(SHARED)
    backend.forward([Chunk(root, prompts[1][:SHARED], Want.NONE)])
    for start in range(0, len(order), how.batch):
        group = {int(i): prompts[i] for i in order[start : start + how.batch]}
        sequences: dict[int, SequenceId] = {}
        for i, prompt in group.items():
            capacity = len(prompt) + DECODED
            fork = how.cached and i % 2 == 1
            sequences[i] = backend.fork(root, SHARED, capacity) if fork else backend.allocate(capacity)
        for i, rows in run(backend, group, sequences, how.chunk).items():
            found[i] = hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest()
        for sequence in sequences.values():
            backend.release(sequence)
    backend.release(root)
    return found


def run(
    backend: NativeBackend, group: dict[int, Tokens], sequences: dict[int, SequenceId], chunk: int
) -> dict[int, list[npt.NDArray[np.float32]]]:
    """Prefill in chunks beside the decoding of those that are through, as a scheduler does it."""
    rows: dict[int, list[npt.NDArray[np.float32]]] = {i: [] for i in group}
    left = {i: prompt[backend.length(sequences[i]) :] for i, prompt in group.items()}
    while left:
        batch = []
        for i in left:
            part, left[i] = left[i][:chunk], left[i][chunk:]
            batch.append(Chunk(sequences[i], part, Want.NONE if len(left[i]) else Want.LAST))
        for i, logits in zip(list(left), backend.forward(batch), strict=True):
            if len(left[i]):
                continue
            rows[i].append(logits[0])
            left[i] = logits.argmax(axis=-1).astype(np.int32)
            if len(rows[i]) > DECODED:
                del left[i]
    return rows


def check(model: Path, count: int, longest: int, instructions: str, kv: str) -> None:
    texts = prompts(model, count, longest)
    storage = Storage(kv=kv)
    with open_checkpoint(model) as checkpoint:
        first = open_native(checkpoint, threads=2, instructions=instructions, storage=storage)
        expected = digests(first, texts, Arrangement())
        assert len(set(expected)) > 0.9 * count, "the prompts differ and so must their logits"
        for threads in (1, 2):
            backend = open_native(checkpoint, threads=threads, instructions=instructions, storage=storage)
            for how in ARRANGEMENTS:
                got = digests(backend, texts, how)
                differing = [i for i in range(count) if got[i] != expected[i]]
                assert not differing, (
                    f"{instructions}, cache {kv}, {threads} threads, {how}: prompts {differing} differ"
                )


@pytest.mark.parametrize(("instructions", "kv"), [*((name, "bf16") for name in WIDE), (WIDE[0], "q8")])
def test_eight_prompts_give_the_same_bytes_however_they_are_run(default_gguf: Path, instructions: str, kv: str) -> None:
    check(default_gguf, 8, 100 if (instructions, kv) == (WIDE[0], "bf16") else 30, instructions, kv)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kv", CACHES)
@pytest.mark.parametrize("instructions", WIDE)
def test_200_prompts_give_the_same_bytes_however_they_are_run(default_gguf: Path, instructions: str, kv: str) -> None:
    check(default_gguf, 200, 500, instructions, kv)
