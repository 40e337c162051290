"""Low-rank adapters (LoRA, Hu et al. 2021) beside frozen linear layers of a :class:`Transformer`.

y = W x + (alpha / rank) B A x, with A (rank, in) drawn from U(-1/sqrt(in), 1/sqrt(in)) as in PEFT, and B (out, rank)
zero, so that tuning begins at the base model exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empu.errors import UsageError
from empu.model.transformer import Block, Transformer
from empu.tune.frozen import Frozen, FrozenFloat, FrozenInt8, FrozenPrecision

TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
"""The linear layers of a block, by their last name."""


class LoraLinear(nn.Module):
    """A frozen linear layer with an adapter. Adapters are float32; products run in the type of the input."""

    def __init__(self, frozen: Frozen, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        out_features, in_features = frozen.shape
        self.frozen = frozen
        self.scale = alpha / rank
        bound = 1 / math.sqrt(in_features)
        a = torch.rand(rank, in_features, generator=generator) * (2 * bound) - bound
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Adapted.apply(x, self.lora_a, self.lora_b, self.frozen, self.scale)  # type: ignore[no-untyped-call]
        return out

    def merged(self) -> Tensor:
        """(out, in) float32: W + scale B A."""
        return self.frozen.weight() + self.scale * (self.lora_b.detach() @ self.lora_a.detach())


class FrozenLinear(nn.Module):
    """A frozen linear layer without an adapter."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Constant.apply(x, self.frozen)  # type: ignore[no-untyped-call]
        return out


class _Adapted(torch.autograd.Function):
    """The frozen product and the adapter in one node, so that only x and A x are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, frozen: Frozen, scale: float) -> Tensor:
        a, b = a.to(x.dtype), (b * scale).to(x.dtype)
        low = x @ a.t()
        ctx.save_for_backward(x, low, a, b)
        ctx.frozen, ctx.scale = frozen, scale
        return torch.addmm(frozen.forward(x), low, b.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        x, low, a, b = ctx.saved_tensors
        g_low = g @ b
        g_x = torch.addmm(ctx.frozen.backward(g), g_low, a) if ctx.needs_input_grad[0] else None
        return g_x, (g_low.t() @ x).float(), (g.t() @ low).float() * ctx.scale, None, None


class _Constant(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen) -> Tensor:
        ctx.frozen = frozen
        return frozen.forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.frozen.backward(grads[0]), None


def attach(
    model: Transformer,
    *,
    rank: int,
    alpha: float,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    precision: FrozenPrecision = "float",
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Freeze ``model`` (changed in place) and put adapters beside its linear layers called ``targets``.

    ``dtype`` is the type of activations and of what stays in floats. Raises :class:`~empu.errors.UsageError` for
    unknown targets or a rank below 1.
    """
    if unknown := [name for name in targets if name not in TARGETS]:
        raise UsageError(f"There is no layer {unknown[0]!r} to adapt; choose out of {', '.join(TARGETS)}.")
    if rank < 1:
        raise UsageError(f"The rank is {rank}; give a whole number of at least 1.")
    freeze: Callable[[Tensor], Frozen] = (
        FrozenInt8 if precision == "int8" else lambda weight: FrozenFloat(weight, dtype)
    )
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for block in model.layers:
        assert isinstance(block, Block)
        for half in (block.attention, block.feed_forward):
            for name, layer in list(half.named_children()):
                assert isinstance(layer, nn.Linear)
                frozen = freeze(layer.weight.data)
                adapted = LoraLinear(frozen, rank, alpha, generator) if name in targets else FrozenLinear(frozen)
                setattr(half, name, adapted)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return model


def adapters(model: Transformer) -> Iterator[tuple[str, LoraLinear]]:
    """(our name of the adapted weight, adapter) for each adapted layer, in order."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield f"{name}.weight", module
