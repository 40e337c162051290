"""LoRA adapters beside shared weights: the logits of merged weights, and the same bits in any batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from empu.checkpoint import Checkpoint
from empu.checkpoint.lora_adapter import LoraAdapter, LoraWeights
from empu.engine.backends.native import available_instruction_sets, open_native, reference_instruction_set
from empu.engine.backends.protocol import Backend, Chunk, LogitsNeeded
from empu.engine.backends.torch import open_torch
from empu.errors import UsageError
from tests.engine.backends.memory_checkpoint import (
    SMALL,
    FloatArray,
    TokenArray,
    all_logits,
    random_checkpoint,
    random_prompts,
)
from tests.engine.backends.numpy_reference import NumpyReference

TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


def random_adapter(checkpoint: Checkpoint, seed: int, rank: int = 8, targets: Sequence[str] = TARGETS) -> LoraAdapter:
    rng = np.random.default_rng(seed)
    layers = {}
    for name in checkpoint.names():
        if any(f".{target}.weight" in name for target in targets):
            rows, cols = checkpoint.shape(name)
            a = rng.standard_normal((rank, cols)) / np.sqrt(cols)
            b = rng.standard_normal((rows, rank)) / np.sqrt(rank)
            layers[name] = LoraWeights(a.astype(np.float32), b.astype(np.float32))
    return LoraAdapter(rank, 0.5 * rank, layers)


def merged_logits(checkpoint: Checkpoint, adapter: LoraAdapter, tokens: TokenArray) -> FloatArray:
    reference = NumpyReference(checkpoint)
    for name in adapter.layers:
        reference.weights[name] = adapter.merged(checkpoint.tensor(name))
    return reference.logits(tokens)


@pytest.mark.parametrize("rank", [1, 16, 40])
@pytest.mark.parametrize("type_name", ["F32", "Q8_0", "Q4_1"])
def test_logits_equal_those_of_merged_weights(type_name: str, rank: int) -> None:
    checkpoint = random_checkpoint(SMALL, type_name)
    adapter = random_adapter(checkpoint, 1, rank)
    (tokens,) = random_prompts([70], SMALL.vocab_size)
    base, expected = NumpyReference(checkpoint).logits(tokens), merged_logits(checkpoint, adapter, tokens)
    effect = np.abs(base - expected).mean()
    native = all_logits(open_native(checkpoint, threads=2).with_adapter(adapter), tokens)
    assert np.abs(native - expected).mean() < (0.007 if type_name == "F32" else 0.05) * effect
    torch = all_logits(open_torch(checkpoint).with_adapter(adapter), tokens)
    assert np.abs(torch - expected).max() < 1e-3 * effect


@pytest.mark.parametrize("targets", [("q",), ("v", "down"), ("gate",), ("o", "up")])
def test_any_subset_of_matrices_can_be_adapted(targets: tuple[str, ...]) -> None:
    checkpoint = random_checkpoint(SMALL, "Q4_1")
    adapter = random_adapter(checkpoint, 2, targets=targets)
    (tokens,) = random_prompts([20], SMALL.vocab_size)
    base, expected = NumpyReference(checkpoint).logits(tokens), merged_logits(checkpoint, adapter, tokens)
    logits = all_logits(open_native(checkpoint).with_adapter(adapter), tokens)
    assert np.abs(logits - expected).mean() < 0.15 * np.abs(base - expected).mean()


@pytest.mark.parametrize("type_name", ["F32", "Q4_1"])
def test_bits_depend_only_on_the_adapter_and_the_tokens(type_name: str) -> None:
    checkpoint = random_checkpoint(SMALL, type_name)
    adapters = [random_adapter(checkpoint, seed, rank) for seed, rank in ((1, 8), (2, 40))]
    backend = open_native(checkpoint, threads=2)
    views = [backend, *(backend.with_adapter(adapter) for adapter in adapters)]
    prompts = list(random_prompts([5 + 41 * i for i in range(6)], SMALL.vocab_size))
    alone = [all_logits(views[i % 3], prompt) for i, prompt in enumerate(prompts)]
    for chunk_size in (1, 3, 64):
        np.testing.assert_array_equal(all_logits(views[2], prompts[5], chunk_size), alone[5])
    for instruction_set in available_instruction_sets():
        logits, reference = (
            all_logits(open_native(checkpoint, threads=1, instruction_set=name).with_adapter(adapters[1]), prompts[5])
            for name in (instruction_set, reference_instruction_set(instruction_set))
        )
        np.testing.assert_array_equal(logits, reference, err_msg=instruction_set)
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        sequences = {i: views[i % 3].allocate(len(prompts[i])) for i in order}
        prefill = backend.forward([Chunk(sequences[i], prompts[i][:-3], LogitsNeeded.ALL) for i in order])
        steps = [views[1].forward([Chunk(sequences[i], prompts[i][-left:][:1]) for i in order]) for left in (3, 2, 1)]
        for position, i in enumerate(order):
            batched = np.concatenate([prefill[position], *(step[position] for step in steps)])
            np.testing.assert_array_equal(batched, alone[i], err_msg=f"prompt {i} in the order {order}")
            backend.release(sequences[i])


@pytest.mark.parametrize("open_backend", [open_native, open_torch])
def test_a_fork_keeps_the_adapter(open_backend: type[Backend]) -> None:
    checkpoint = random_checkpoint(SMALL)
    backend: Backend = open_backend(checkpoint)  # type: ignore[call-arg]
    view = backend.with_adapter(random_adapter(checkpoint, 1))
    (tokens,) = random_prompts([90], SMALL.vocab_size)
    expected = all_logits(view, tokens)
    original = view.allocate(90)
    backend.forward([Chunk(original, tokens[:70], LogitsNeeded.NONE)])
    forked = backend.fork(original, 65, 90)
    (logits,) = backend.forward([Chunk(forked, tokens[65:], LogitsNeeded.ALL)])
    np.testing.assert_allclose(logits, expected[65:], atol=1e-4)


def test_adapters_that_do_not_fit_are_refused() -> None:
    checkpoint = random_checkpoint(SMALL)
    backend = open_native(checkpoint)
    q = "layers.0.attention.q.weight"
    valid = random_adapter(checkpoint, 1).layers[q]
    invalid = {
        "at most 256": LoraAdapter(
            300, 1.0, {q: LoraWeights(np.ones((300, 128), np.float32), np.ones((128, 300), np.float32))}
        ),
        "does not fit": LoraAdapter(8, 1.0, {q: LoraWeights(valid.a[:, :-1], valid.b)}),
        "no matrix called": LoraAdapter(8, 1.0, {"output.weight": valid}),
    }
    for message, adapter in invalid.items():
        with pytest.raises(UsageError, match=message):
            backend.with_adapter(adapter)
