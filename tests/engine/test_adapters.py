"""Adapters beside shared weights: the logits of merged weights, and the same bits whoever is batched beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import Checkpoint
from empu.checkpoint.adapter import Adapter, LowRank
from empu.config import ModelConfig
from empu.engine.backends.native import available_instructions, open_native, oracle_of
from empu.engine.backends.protocol import Backend, Chunk, Want
from empu.engine.backends.torch import open_torch
from empu.errors import UsageError
from tests.engine.native_reference import Reference, random_checkpoint, token_rows

SHAPE = ModelConfig(
    n_layers=2, dim=128, n_heads=4, n_kv_heads=2, head_dim=32, ffn_dim=256, vocab_size=200, tie_embeddings=True
)
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
Tokens = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


def random_adapter(checkpoint: Checkpoint, seed: int, rank: int = 8, targets: Sequence[str] = TARGETS) -> Adapter:
    rng = np.random.default_rng(seed)
    layers = {}
    for name in checkpoint.names():
        if any(f".{target}.weight" in name for target in targets):
            rows, cols = checkpoint.shape(name)
            a = rng.standard_normal((rank, cols)) / np.sqrt(cols)
            b = rng.standard_normal((rows, rank)) / np.sqrt(rank)
            layers[name] = LowRank(a.astype(np.float32), b.astype(np.float32))
    return Adapter(rank, 0.5 * rank, layers)


def all_logits(backend: Backend, tokens: Tokens, pieces: int = 10_000) -> Floats:
    sequence = backend.allocate(len(tokens))
    rows = []
    for start in range(0, len(tokens), pieces):
        rows += backend.forward([Chunk(sequence, tokens[start : start + pieces], Want.ALL)])
    backend.release(sequence)
    return np.concatenate(rows)


def merged_logits(checkpoint: Checkpoint, adapter: Adapter, tokens: Tokens) -> Floats:
    reference = Reference(checkpoint)
    for name in adapter.layers:
        reference.weights[name] = adapter.merged(checkpoint.tensor(name))
    return reference.logits(tokens)


@pytest.mark.parametrize("rank", [1, 16, 40])
@pytest.mark.parametrize("type_name", ["F32", "Q8_0", "Q4_1"])
def test_logits_are_those_of_merged_weights(type_name: str, rank: int) -> None:
    checkpoint = random_checkpoint(SHAPE, type_name)
    adapter = random_adapter(checkpoint, 1, rank)
    (tokens,) = token_rows([70], SHAPE.vocab_size)
    plain, expected = Reference(checkpoint).logits(tokens), merged_logits(checkpoint, adapter, tokens)
    effect = np.abs(plain - expected).mean()
    got = all_logits(open_native(checkpoint, threads=2).adapted(adapter), tokens)
    assert np.abs(got - expected).mean() < (0.007 if type_name == "F32" else 0.05) * effect
    in_torch = all_logits(open_torch(checkpoint).adapted(adapter), tokens)
    assert np.abs(in_torch - expected).max() < 1e-3 * effect


@pytest.mark.parametrize("targets", [("q",), ("v", "down"), ("gate",), ("o", "up")])
def test_any_of_a_layers_matrices_may_have_one(targets: tuple[str, ...]) -> None:
    checkpoint = random_checkpoint(SHAPE, "Q4_1")
    adapter = random_adapter(checkpoint, 2, targets=targets)
    (tokens,) = token_rows([20], SHAPE.vocab_size)
    plain, expected = Reference(checkpoint).logits(tokens), merged_logits(checkpoint, adapter, tokens)
    got = all_logits(open_native(checkpoint).adapted(adapter), tokens)
    assert np.abs(got - expected).mean() < 0.15 * np.abs(plain - expected).mean()


@pytest.mark.parametrize("type_name", ["F32", "Q4_1"])
def test_bits_depend_on_nothing_but_the_adapter_and_the_tokens(type_name: str) -> None:
    checkpoint = random_checkpoint(SHAPE, type_name)
    adapters = [random_adapter(checkpoint, seed, rank) for seed, rank in ((1, 8), (2, 40))]
    backend = open_native(checkpoint, threads=2)
    views = [backend, *(backend.adapted(adapter) for adapter in adapters)]
    prompts = list(token_rows([5 + 41 * i for i in range(6)], SHAPE.vocab_size))
    alone = [all_logits(views[i % 3], prompt) for i, prompt in enumerate(prompts)]
    for pieces in (1, 3, 64):
        np.testing.assert_array_equal(all_logits(views[2], prompts[5], pieces), alone[5])
    for instructions in available_instructions():
        wide, plain = (
            all_logits(open_native(checkpoint, threads=1, instructions=name).adapted(adapters[1]), prompts[5])
            for name in (instructions, oracle_of(instructions))
        )
        np.testing.assert_array_equal(wide, plain, err_msg=instructions)
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        sequences = {i: views[i % 3].allocate(len(prompts[i])) for i in order}
        begun = backend.forward([Chunk(sequences[i], prompts[i][:-3], Want.ALL) for i in order])
        steps = [views[1].forward([Chunk(sequences[i], prompts[i][-left:][:1]) for i in order]) for left in (3, 2, 1)]
        for place, i in enumerate(order):
            got = np.concatenate([begun[place], *(step[place] for step in steps)])
            np.testing.assert_array_equal(got, alone[i], err_msg=f"prompt {i} in the order {order}")
            backend.release(sequences[i])


@pytest.mark.parametrize("opener", [open_native, open_torch])
def test_a_fork_keeps_the_adapter(opener: type[Backend]) -> None:
    checkpoint = random_checkpoint(SHAPE)
    backend: Backend = opener(checkpoint)  # type: ignore[call-arg]
    view = backend.adapted(random_adapter(checkpoint, 1))
    (tokens,) = token_rows([90], SHAPE.vocab_size)
    expected = all_logits(view, tokens)
    first = view.allocate(90)
    backend.forward([Chunk(first, tokens[:70], Want.NONE)])
    forked = backend.fork(first, 65, 90)
    (got,) = backend.forward([Chunk(forked, tokens[65:], Want.ALL)])
    np.testing.assert_allclose(got, expected[65:], atol=1e-4)


def test_adapters_that_do_not_fit_are_refused() -> None:
    checkpoint = random_checkpoint(SHAPE)
    backend = open_native(checkpoint)
    q = "layers.0.attention.q.weight"
    good = random_adapter(checkpoint, 1).layers[q]
    wrong = {
        "at most 256": Adapter(
            300, 1.0, {q: LowRank(np.ones((300, 128), np.float32), np.ones((128, 300), np.float32))}
        ),
        "does not fit": Adapter(8, 1.0, {q: LowRank(good.a[:, :-1], good.b)}),
        "no matrix called": Adapter(8, 1.0, {"output.weight": good}),
    }
    for message, adapter in wrong.items():
        with pytest.raises(UsageError, match=message):
            backend.adapted(adapter)
