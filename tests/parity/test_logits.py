"""Our logits against transformers' and against Meta's reference code, on random weights of every family.

The bound is what float32 rounding explains: logits here have magnitude about 10, so one unit in the last place is 1e-6,
and the sums of three layers of width 64 stay within a few tens of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from empu.checkpoint import open_checkpoint
from empu.engine.backends.protocol import Chunk, Want
from empu.engine.backends.torch import TorchBackend, open_torch
from empu.model.attention import Packed
from tests.parity.families import FAMILIES, META_FAMILIES, meta_model, meta_world, transformers_model

TOKENS = 96
ROUNDING = 1e-4


def ours(folder: Path) -> TorchBackend:
    with open_checkpoint(folder) as checkpoint:
        return open_torch(checkpoint)


def whole(backend: TorchBackend, tokens: np.ndarray) -> np.ndarray:
    sequence = backend.allocate(len(tokens))
    (logits,) = backend.forward([Chunk(sequence, tokens, Want.ALL)])
    backend.release(sequence)
    return logits


def random_tokens(size: int, seed: int = 1, count: int = TOKENS) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, count).astype(np.int32)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(family: str, tmp_path: Path) -> None:
    theirs = transformers_model(family)
    theirs.save_pretrained(tmp_path)
    backend = ours(tmp_path)
    tokens = random_tokens(backend.config.vocab_size)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(tokens).long()[None]).logits[0].numpy()
    got = whole(backend, tokens)
    assert np.abs(expected).max() > 1
    assert np.abs(got - expected).max() < ROUNDING
    assert (got.argmax(-1) == expected.argmax(-1)).all()


@pytest.mark.parametrize("family", META_FAMILIES)
def test_logits_equal_metas_reference_code(family: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_models")
    with meta_world():
        theirs = meta_model(family, tmp_path)
        backend = ours(tmp_path)
        tokens = random_tokens(backend.config.vocab_size)
        ids = torch.from_numpy(tokens).long()[None]
        expected = theirs(ids, 0)[0].numpy()
        assert np.abs(whole(backend, tokens) - expected).max() < ROUNDING
        # The cache, theirs and ours: a prompt, then token by token.
        sequence = backend.allocate(TOKENS)
        stepwise = [backend.forward([Chunk(sequence, tokens[:40])])[0]]
        stepwise += [backend.forward([Chunk(sequence, tokens[i : i + 1])])[0] for i in range(40, TOKENS)]
        assert np.abs(np.concatenate(stepwise) - expected[39:]).max() < ROUNDING


@pytest.mark.parametrize("family", ["Llama 3.1", "Mistral 7B v0.1"])
def test_mixed_batches_and_chunks_give_the_same_logits(family: str, tmp_path: Path) -> None:
    """Chunks of any size, beside other sequences, after truncation: within rounding of the whole at once."""
    transformers_model(family).save_pretrained(tmp_path)
    backend = ours(tmp_path)
    size = backend.config.vocab_size
    prompts = [random_tokens(size, seed, count) for seed, count in ((1, 70), (2, 33), (3, 50))]
    expected = [whole(backend, tokens) for tokens in prompts]
    random = np.random.default_rng(0)
    sequences = [backend.allocate(100) for _ in prompts]
    done = [0, 0, 0]
    got: list[list[np.ndarray]] = [[], [], []]
    while any(done[i] < len(prompts[i]) for i in range(3)):
        batch, parts = [], []
        for i in random.permutation(3):
            if done[i] == len(prompts[i]) or random.random() < 0.3:
                continue
            if done[i] > 5 and random.random() < 0.2:  # take some back and read them again
                done[i] -= 3
                backend.truncate(sequences[i], done[i])
                del got[i][:]
                got[i].append(expected[i][: done[i]])
            part = prompts[i][done[i] : done[i] + int(random.integers(1, 20))]
            batch.append(Chunk(sequences[i], part, Want.ALL))
            parts.append((i, len(part)))
        for (i, length), logits in zip(parts, backend.forward(batch), strict=True):
            got[i].append(logits)
            done[i] += length
    for i in range(3):
        assert np.abs(np.concatenate(got[i]) - expected[i]).max() < ROUNDING


def test_packed_documents_do_not_see_each_other(tmp_path: Path) -> None:
    transformers_model("Llama 3").save_pretrained(tmp_path)
    backend = ours(tmp_path)
    documents = [random_tokens(300, seed, count) for seed, count in ((1, 17), (2, 1), (3, 40))]
    attend = Packed([len(document) for document in documents])
    tokens = torch.from_numpy(np.concatenate(documents)).long()
    with torch.inference_mode():
        packed = backend.model(tokens, attend.positions(), attend).numpy()
    alone = np.concatenate([whole(backend, document) for document in documents])
    assert np.abs(packed - alone).max() < ROUNDING


def test_a_shared_prefix_is_as_good_as_one_in_each_document(tmp_path: Path) -> None:
    transformers_model("Llama 3").save_pretrained(tmp_path)
    backend = ours(tmp_path)
    prefix = random_tokens(300, 9, 11)
    documents = [random_tokens(300, seed, count) for seed, count in ((1, 17), (2, 1), (3, 40), (4, 45), (5, 20))]
    attend = Packed([len(document) for document in documents], prefix=len(prefix))
    tokens = torch.from_numpy(np.concatenate([prefix, *documents])).long()
    with torch.inference_mode():
        packed = backend.model(tokens, attend.positions(), attend).numpy()
    each = [whole(backend, np.concatenate([prefix, document])) for document in documents]
    expected = np.concatenate([each[0][: len(prefix)], *(logits[len(prefix) :] for logits in each)])
    assert np.abs(packed - expected).max() < ROUNDING
