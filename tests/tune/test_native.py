"""Compiled layers and their gradients against autograd on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from empu.engine.backends.native import available_instructions
from empu.errors import UsageError
from empu.model.attention import Cached
from empu.model.transformer import Transformer
from empu.tune.batches import Batch, Example, common_prefix
from empu.tune.lora import TARGETS, adapters, attach
from empu.tune.native import NativeTransformer, attach_native, fits
from tests.tune.making import tiny_model

DOCUMENTS = [Example((1, 2, 3, *range(30, 30 + size)), (7, 8)) for size in (1, 2, 19, 33, 70, 140)]
"""With a common prefix, shorter and longer than the blocks in which queries and tokens are taken."""


def in_four_bits(model: Transformer) -> Transformer:
    """The model with its layers' matrices rounded to what a file of Q4_1 would hold."""
    for name, parameter in model.named_parameters():
        if not name.startswith("layers.") or parameter.dim() != 2:
            continue
        groups = parameter.data.view(-1, 32)
        least, most = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        scale, minimum = (((most - least) / 15).half().float(), least.half().float())
        numbers = ((groups - minimum) / scale).round().clamp(0, 15)
        parameter.data = (numbers * scale + minimum).view_as(parameter)
    return model


def made(
    native: bool,
    *,
    rank: int = 5,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    change: Callable[[Transformer], Transformer] = lambda model: model,
    **settings: Any,
) -> Transformer:
    attach_one = attach_native if native else attach
    model = attach_one(change(tiny_model()), rank=rank, alpha=3.0, targets=targets, seed=seed, **settings)
    generator = torch.Generator().manual_seed(1)
    for _, adapter in adapters(model):
        adapter.lora_b.data.normal_(std=0.1, generator=generator)
    return model


def loss_and_gradients(
    model: Transformer, documents: Sequence[Example], prefix: Sequence[int]
) -> tuple[Tensor, Tensor]:
    batch = Batch.of(documents, prefix)
    hidden = model.hidden(batch.tokens, batch.attend.positions(), batch.attend)
    loss = F.cross_entropy(model.logits(hidden[batch.read]), batch.targets)
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    grads = [p.grad.flatten() for p in model.parameters() if p.requires_grad and p.grad is not None]
    return loss.detach(), torch.cat(grads)


@pytest.mark.parametrize("instructions", available_instructions())
@pytest.mark.parametrize("with_prefix", [True, False])
def test_without_rounding_loss_and_gradients_are_autograds(instructions: str, with_prefix: bool) -> None:
    prefix = common_prefix(DOCUMENTS) if with_prefix else ()
    wanted = loss_and_gradients(made(False), DOCUMENTS, prefix)
    model = made(True, rounded=False, instructions=instructions, threads=2)
    loss, gradients = loss_and_gradients(model, DOCUMENTS, prefix)
    torch.testing.assert_close(loss, wanted[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients, wanted[1], rtol=1e-3, atol=2e-5 * float(wanted[1].abs().max()))


@pytest.mark.parametrize(("rank", "targets"), [(1, ("q", "v")), (16, ("down",)), (17, TARGETS)])
def test_any_rank_and_any_layers_are_adapted(rank: int, targets: tuple[str, ...]) -> None:
    wanted = loss_and_gradients(made(False, rank=rank, targets=targets), DOCUMENTS, ())
    got = loss_and_gradients(made(True, rank=rank, targets=targets, rounded=False), DOCUMENTS, ())
    torch.testing.assert_close(got[1], wanted[1], rtol=1e-3, atol=2e-5 * float(wanted[1].abs().max()))


def test_eight_bits_stay_close() -> None:
    prefix = common_prefix(DOCUMENTS)
    loss, gradients = loss_and_gradients(made(False), DOCUMENTS, prefix)
    near, rounded = loss_and_gradients(made(True), DOCUMENTS, prefix)
    assert 0 < abs(near - loss) < 0.02 * loss
    assert F.cosine_similarity(gradients, rounded, dim=0) > 0.995


@pytest.mark.parametrize("instructions", available_instructions())
def test_weights_of_four_bits_are_multiplied_as_they_are(instructions: str) -> None:
    prefix = common_prefix(DOCUMENTS)
    loss, gradients = loss_and_gradients(made(False, change=in_four_bits), DOCUMENTS, prefix)
    near, rounded = loss_and_gradients(made(True, change=in_four_bits, instructions=instructions), DOCUMENTS, prefix)
    assert 0 < abs(near - loss) < 0.01 * loss
    assert F.cosine_similarity(gradients, rounded, dim=0) > 0.995


def test_the_same_pass_gives_the_same_bits() -> None:
    first, second = made(True, threads=2), made(True, threads=2)
    one = loss_and_gradients(first, DOCUMENTS, (1, 2, 3))
    loss_and_gradients(second, DOCUMENTS[:2], ())
    other = loss_and_gradients(second, DOCUMENTS, (1, 2, 3))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_a_pass_without_gradients_changes_nothing_and_agrees() -> None:
    model = made(True)
    batch = Batch.of(DOCUMENTS)
    kept = model.hidden(batch.tokens, batch.attend.positions(), batch.attend)
    with torch.no_grad():
        plain = model.hidden(batch.tokens, batch.attend.positions(), batch.attend)
    assert torch.equal(kept, plain)
    with pytest.raises(RuntimeError, match="another pass has run"):
        kept.sum().backward()  # type: ignore[no-untyped-call]


def test_what_does_not_fit_is_said() -> None:
    config = tiny_model().config
    assert fits(config)
    with pytest.raises(UsageError, match="no layer 'query'"):
        attach_native(tiny_model(), rank=4, alpha=4.0, targets=("query",))
    with pytest.raises(UsageError, match="rank is 0"):
        attach_native(tiny_model(), rank=0, alpha=4.0)
    with pytest.raises(UsageError, match="threads must be from 1 to 256"):
        attach_native(tiny_model(), rank=2, alpha=2.0, threads=600)
    model = attach_native(tiny_model(), rank=2, alpha=2.0)
    assert isinstance(model, NativeTransformer)
    tokens = torch.arange(3)
    with pytest.raises(UsageError, match="packed documents only"):
        model.hidden(tokens, tokens, Cached([], []))
