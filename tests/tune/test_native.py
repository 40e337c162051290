"""Compiled layers and their gradients against autograd on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from empu.engine.backends.native import available_instruction_sets
from empu.errors import UsageError
from empu.model.kv_cache import CachedSequences
from empu.model.transformer import Transformer
from empu.tune.batches import Batch, common_prompt_prefix
from empu.tune.examples import Example
from empu.tune.lora import TARGET_MODULES, LoraConfig, attach_lora, lora_layers
from empu.tune.native import NativeTransformer, attach_native, supports_native
from tests.tune.samples import tiny_model

DOCUMENTS = [Example((1, 2, 3, *range(30, 30 + size)), (7, 8)) for size in (1, 2, 19, 33, 70, 140)]
"""With a common prefix; shorter and longer than the blocks of queries and tokens in the kernels."""


def round_to_q4_1(model: Transformer) -> Transformer:
    """Round the matrices of the layers to values that Q4_1 represents exactly."""
    for name, parameter in model.named_parameters():
        if not name.startswith("layers.") or parameter.dim() != 2:
            continue
        groups = parameter.data.view(-1, 32)
        lowest, highest = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        scale, minimum = ((highest - lowest) / 15).half().float(), lowest.half().float()
        quantised = ((groups - minimum) / scale).round().clamp(0, 15)
        parameter.data = (quantised * scale + minimum).view_as(parameter)
    return model


def adapted_model(
    is_native: bool,
    *,
    rank: int = 5,
    targets: tuple[str, ...] = TARGET_MODULES,
    change: Callable[[Transformer], Transformer] = lambda model: model,
    **settings: Any,
) -> Transformer:
    attach = attach_native if is_native else attach_lora
    model = attach(change(tiny_model()), LoraConfig(rank, 3.0, targets), **settings)
    generator = torch.Generator().manual_seed(1)
    for _, adapter in lora_layers(model):
        adapter.lora_b.data.normal_(std=0.1, generator=generator)
    return model


def loss_and_gradients(
    model: Transformer, documents: Sequence[Example], prefix: Sequence[int]
) -> tuple[Tensor, Tensor]:
    batch = Batch.of(documents, prefix)
    hidden = model.hidden_states(batch.tokens, batch.documents.positions(), batch.documents)
    loss = F.cross_entropy(model.logits(hidden[batch.completion_positions]), batch.completion_targets)
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    grads = [p.grad.flatten() for p in model.parameters() if p.requires_grad and p.grad is not None]
    return loss.detach(), torch.cat(grads)


@pytest.mark.parametrize("instructions", available_instruction_sets())
@pytest.mark.parametrize("with_prefix", [True, False])
def test_in_float32_loss_and_gradients_equal_those_of_autograd(instructions: str, with_prefix: bool) -> None:
    prefix = common_prompt_prefix(DOCUMENTS) if with_prefix else ()
    expected = loss_and_gradients(adapted_model(False), DOCUMENTS, prefix)
    model = adapted_model(True, quantised=False, instructions=instructions, threads=2)
    loss, gradients = loss_and_gradients(model, DOCUMENTS, prefix)
    torch.testing.assert_close(loss, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients, expected[1], rtol=1e-3, atol=2e-5 * float(expected[1].abs().max()))


@pytest.mark.parametrize(("rank", "targets"), [(1, ("q", "v")), (16, ("down",)), (17, TARGET_MODULES)])
def test_any_rank_and_any_layers_can_be_adapted(rank: int, targets: tuple[str, ...]) -> None:
    expected = loss_and_gradients(adapted_model(False, rank=rank, targets=targets), DOCUMENTS, ())
    actual = loss_and_gradients(adapted_model(True, rank=rank, targets=targets, quantised=False), DOCUMENTS, ())
    torch.testing.assert_close(actual[1], expected[1], rtol=1e-3, atol=2e-5 * float(expected[1].abs().max()))


def test_int8_is_close_to_float32() -> None:
    prefix = common_prompt_prefix(DOCUMENTS)
    loss, gradients = loss_and_gradients(adapted_model(False), DOCUMENTS, prefix)
    int8_loss, int8_gradients = loss_and_gradients(adapted_model(True), DOCUMENTS, prefix)
    assert 0 < abs(int8_loss - loss) < 0.02 * loss
    assert F.cosine_similarity(gradients, int8_gradients, dim=0) > 0.995


@pytest.mark.parametrize("instructions", available_instruction_sets())
def test_weights_with_4_bit_values_are_multiplied_exactly(instructions: str) -> None:
    prefix = common_prompt_prefix(DOCUMENTS)
    loss, gradients = loss_and_gradients(adapted_model(False, change=round_to_q4_1), DOCUMENTS, prefix)
    int8_loss, int8_gradients = loss_and_gradients(
        adapted_model(True, change=round_to_q4_1, instructions=instructions), DOCUMENTS, prefix
    )
    assert 0 < abs(int8_loss - loss) < 0.01 * loss
    assert F.cosine_similarity(gradients, int8_gradients, dim=0) > 0.995


def test_the_same_forward_pass_gives_the_same_bits() -> None:
    first, second = adapted_model(True, threads=2), adapted_model(True, threads=2)
    first_result = loss_and_gradients(first, DOCUMENTS, (1, 2, 3))
    loss_and_gradients(second, DOCUMENTS[:2], ())
    second_result = loss_and_gradients(second, DOCUMENTS, (1, 2, 3))
    assert torch.equal(first_result[0], second_result[0])
    assert torch.equal(first_result[1], second_result[1])


def test_a_forward_pass_without_gradients_gives_the_same_values() -> None:
    model = adapted_model(True)
    batch = Batch.of(DOCUMENTS)
    with_gradients = model.hidden_states(batch.tokens, batch.documents.positions(), batch.documents)
    with torch.no_grad():
        without_gradients = model.hidden_states(batch.tokens, batch.documents.positions(), batch.documents)
    assert torch.equal(with_gradients, without_gradients)
    with pytest.raises(RuntimeError, match="Another forward pass has run"):
        with_gradients.sum().backward()  # type: ignore[no-untyped-call]


def test_unsupported_settings_are_refused() -> None:
    config = tiny_model().config
    assert supports_native(config)
    with pytest.raises(UsageError, match="no layer 'query'"):
        attach_native(tiny_model(), LoraConfig(4, 4.0, ("query",)))
    with pytest.raises(UsageError, match="rank is 0"):
        attach_native(tiny_model(), LoraConfig(0, 4.0))
    with pytest.raises(UsageError, match="threads must be from 1 to 256"):
        attach_native(tiny_model(), LoraConfig(2, 2.0), threads=600)
    model = attach_native(tiny_model(), LoraConfig(2, 2.0))
    assert isinstance(model, NativeTransformer)
    tokens = torch.arange(3)
    with pytest.raises(UsageError, match="only run packed documents"):
        model.hidden_states(tokens, tokens, CachedSequences([], []))
