"""Low-rank adapters (LoRA, Hu et al. 2021) beside frozen linear layers of a :class:`Transformer`.

y = W x + (alpha / rank) B A x, with A (rank, in) drawn from U(-1/sqrt(in), 1/sqrt(in)) as in PEFT, and B (out, rank)
zero, so that tuning begins at the base model exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empu.errors import UsageError
from empu.model.transformer import Block, Transformer

TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
"""The linear layers of a block, by their last name."""


class Adapter(nn.Module):
    """The two small float32 matrices beside one frozen linear layer of ``shape`` (out, in)."""

    def __init__(self, shape: tuple[int, int], rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        out_features, in_features = shape
        self.scale = alpha / rank
        bound = 1 / math.sqrt(in_features)
        a = torch.rand(rank, in_features, generator=generator) * (2 * bound) - bound
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))


class LoraLinear(Adapter):
    """A frozen linear layer with an adapter; products run in the type of the input."""

    def __init__(self, frozen: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__((frozen.shape[0], frozen.shape[1]), rank, alpha, generator)
        self.frozen = frozen

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Adapted.apply(x, self.lora_a, self.lora_b, self.frozen, self.scale)  # type: ignore[no-untyped-call]
        return out

    def merged(self) -> Tensor:
        """(out, in) float32: W + scale B A."""
        return self.frozen.float() + self.scale * (self.lora_b.detach() @ self.lora_a.detach())


class FrozenLinear(nn.Module):
    """A frozen linear layer without an adapter."""

    def __init__(self, frozen: Tensor) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Constant.apply(x, self.frozen)  # type: ignore[no-untyped-call]
        return out


class _Adapted(torch.autograd.Function):
    """The frozen product and the adapter in one node, so that only x and A x are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, frozen: Tensor, scale: float) -> Tensor:
        a, b = a.to(x.dtype), (b * scale).to(x.dtype)
        low = x @ a.t()
        ctx.save_for_backward(x, low, a, b)
        ctx.frozen, ctx.scale = frozen, scale
        return torch.addmm(x @ frozen.t(), low, b.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        x, low, a, b = ctx.saved_tensors
        g_low = g @ b
        g_x = torch.addmm(g @ ctx.frozen, g_low, a) if ctx.needs_input_grad[0] else None
        return g_x, (g_low.t() @ x).float(), (g.t() @ low).float() * ctx.scale, None, None


class _Constant(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Tensor) -> Tensor:
        ctx.frozen = frozen
        return x @ frozen.t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] @ ctx.frozen, None


def attach(
    model: Transformer,
    *,
    rank: int,
    alpha: float,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Freeze ``model`` (changed in place) and put adapters beside its linear layers called ``targets``.

    ``dtype`` is the type of activations and of the frozen weights. Raises :class:`~empu.errors.UsageError` for unknown
    targets or a rank below 1.
    """
    check_adapters(rank, targets)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for block in model.layers:
        assert isinstance(block, Block)
        for half in (block.attention, block.feed_forward):
            for name, layer in list(half.named_children()):
                assert isinstance(layer, nn.Linear)
                frozen = layer.weight.data.to(dtype)
                adapted = LoraLinear(frozen, rank, alpha, generator) if name in targets else FrozenLinear(frozen)
                setattr(half, name, adapted)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return model


def check_adapters(rank: int, targets: Sequence[str]) -> None:
    """Raises :class:`~empu.errors.UsageError` for unknown targets or a rank below 1."""
    if unknown := [name for name in targets if name not in TARGETS]:
        raise UsageError(f"There is no layer {unknown[0]!r} to adapt; choose out of {', '.join(TARGETS)}.")
    if rank < 1:
        raise UsageError(f"The rank is {rank}; give a whole number of at least 1.")


def adapters(model: Transformer) -> Iterator[tuple[str, Adapter]]:
    """(our name of the adapted weight, adapter) for each adapted layer, in order."""
    for name, module in model.named_modules():
        if isinstance(module, Adapter):
            yield f"{name}.weight", module
