"""Our logits against those of transformers and of Meta's reference code, on random weights of every family.

The tolerance is what float32 rounding explains. Logits here have a magnitude of about 10, so one unit in the last place
is 1e-6, and the sums of three layers of width 64 stay within a few tens of units.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from empu.checkpoint import open_checkpoint
from empu.engine.backends.protocol import Chunk, LogitsNeeded
from empu.engine.backends.torch import TorchBackend, open_torch
from tests.parity.families import FAMILIES, META_FAMILIES, meta_model, single_process_group, transformers_model

NUM_TOKENS = 96
TOLERANCE = 1e-4


def open_ours(folder: Path) -> TorchBackend:
    with open_checkpoint(folder) as checkpoint:
        return open_torch(checkpoint)


def all_logits(backend: TorchBackend, tokens: np.ndarray) -> np.ndarray:
    sequence = backend.allocate(len(tokens))
    (logits,) = backend.forward([Chunk(sequence, tokens, LogitsNeeded.ALL)])
    backend.release(sequence)
    return logits


def random_tokens(vocab_size: int, seed: int = 1, count: int = NUM_TOKENS) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, count).astype(np.int32)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(family: str, tmp_path: Path) -> None:
    theirs = transformers_model(family)
    theirs.save_pretrained(tmp_path)
    backend = open_ours(tmp_path)
    tokens = random_tokens(backend.config.vocab_size)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(tokens).long()[None]).logits[0].numpy()
    logits = all_logits(backend, tokens)
    assert np.abs(expected).max() > 1
    assert np.abs(logits - expected).max() < TOLERANCE
    assert (logits.argmax(-1) == expected.argmax(-1)).all()


@pytest.mark.parametrize("family", META_FAMILIES)
def test_logits_equal_metas_reference_code(family: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_models")
    with single_process_group():
        theirs = meta_model(family, tmp_path)
        backend = open_ours(tmp_path)
        tokens = random_tokens(backend.config.vocab_size)
        ids = torch.from_numpy(tokens).long()[None]
        expected = theirs(ids, 0)[0].numpy()
        assert np.abs(all_logits(backend, tokens) - expected).max() < TOLERANCE
        # With the KV cache: a prompt, then token by token.
        sequence = backend.allocate(NUM_TOKENS)
        stepwise = [backend.forward([Chunk(sequence, tokens[:40])])[0]]
        stepwise += [backend.forward([Chunk(sequence, tokens[i : i + 1])])[0] for i in range(40, NUM_TOKENS)]
        assert np.abs(np.concatenate(stepwise) - expected[39:]).max() < TOLERANCE


@pytest.mark.parametrize("family", ["Llama 3.1", "Mistral 7B v0.1"])
def test_chunks_and_mixed_batches_give_the_same_logits(family: str, tmp_path: Path) -> None:
    """With chunks of any size, beside other sequences, after truncation: equal to one forward pass within rounding."""
    transformers_model(family).save_pretrained(tmp_path)
    backend = open_ours(tmp_path)
    vocab_size = backend.config.vocab_size
    prompts = [random_tokens(vocab_size, seed, count) for seed, count in ((1, 70), (2, 33), (3, 50))]
    expected = [all_logits(backend, tokens) for tokens in prompts]
    random = np.random.default_rng(0)
    sequences = [backend.allocate(100) for _ in prompts]
    done = [0, 0, 0]
    logits: list[list[np.ndarray]] = [[], [], []]
    while any(done[i] < len(prompts[i]) for i in range(3)):
        batch, parts = [], []
        for i in random.permutation(3):
            if done[i] == len(prompts[i]) or random.random() < 0.3:
                continue
            if done[i] > 5 and random.random() < 0.2:  # drop some tokens and compute them again
                done[i] -= 3
                backend.truncate(sequences[i], done[i])
                del logits[i][:]
                logits[i].append(expected[i][: done[i]])
            part = prompts[i][done[i] : done[i] + int(random.integers(1, 20))]
            batch.append(Chunk(sequences[i], part, LogitsNeeded.ALL))
            parts.append((i, len(part)))
        for (i, length), chunk_logits in zip(parts, backend.forward(batch), strict=True):
            logits[i].append(chunk_logits)
            done[i] += length
    for i in range(3):
        assert np.abs(np.concatenate(logits[i]) - expected[i]).max() < TOLERANCE
