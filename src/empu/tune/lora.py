"""Low-rank adapters (LoRA, Hu et al. 2021) beside the frozen linear layers of a :class:`Transformer`.

y = W x + (alpha / rank) B A x, where A (rank, in) is initialised from U(-1/sqrt(in), 1/sqrt(in)) as in PEFT, and B
(out, rank) with zeros, so that training starts exactly at the base model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from empu.checkpoint.tensor_names import expected_shapes
from empu.config import ModelConfig
from empu.errors import UsageError
from empu.model.transformer import Block, Transformer

TARGET_MODULES = ("q", "k", "v", "o", "gate", "up", "down")
"""The linear layers of a block."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Which layers get adapters, of what rank and scale, and the seed of their initial values."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = TARGET_MODULES
    seed: int = 0

    @property
    def scale(self) -> float:
        """Factor of B A x."""
        return self.alpha / self.rank

    def check(self) -> None:
        """Raise :class:`~empu.errors.UsageError` for a rank or alpha out of range or an unknown target."""
        if self.rank < 1:
            raise UsageError(f"The LoRA rank is {self.rank}; give a whole number of at least 1.")
        if not self.alpha > 0:
            raise UsageError(f"The LoRA alpha is {self.alpha!r}; give a number above 0.")
        if unknown := [name for name in self.targets if name not in TARGET_MODULES]:
            raise UsageError(
                f"The model has no layer {unknown[0]!r} to adapt; choose from {', '.join(TARGET_MODULES)}."
            )

    def parameter_count(self, config: ModelConfig) -> int:
        """Return the number of trained parameters in a model of this shape."""
        shapes = expected_shapes(config).items()
        return self.rank * sum(sum(shape) for name, shape in shapes if name.split(".")[-2] in self.targets)


class LoraLayer(nn.Module):
    """The float32 matrices A and B beside one frozen linear layer."""

    def __init__(self, out_features: int, in_features: int, lora: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = lora.scale
        bound = 1 / math.sqrt(in_features)
        a = torch.rand(lora.rank, in_features, generator=generator) * (2 * bound) - bound
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(out_features, lora.rank))


class LoraLinear(LoraLayer):
    """A frozen linear layer with an adapter. Products run in the type of the input."""

    def __init__(self, frozen: Tensor, lora: LoraConfig, generator: torch.Generator) -> None:
        super().__init__(frozen.shape[0], frozen.shape[1], lora, generator)
        self.frozen = frozen

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _LoraProduct.apply(x, self.lora_a, self.lora_b, self.frozen, self.scale)  # type: ignore[no-untyped-call]
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
        out: Tensor = _FrozenProduct.apply(x, self.frozen)  # type: ignore[no-untyped-call]
        return out


class _LoraProduct(torch.autograd.Function):
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
        (grad,) = grads
        x, low, a, b = ctx.saved_tensors
        grad_low = grad @ b
        grad_x = torch.addmm(grad @ ctx.frozen, grad_low, a) if ctx.needs_input_grad[0] else None
        return grad_x, (grad_low.t() @ x).float(), (grad.t() @ low).float() * ctx.scale, None, None


class _FrozenProduct(torch.autograd.Function):
    """A product with a frozen weight, which keeps nothing but the weight for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Tensor) -> Tensor:
        ctx.frozen = frozen
        return x @ frozen.t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] @ ctx.frozen, None


def attach_lora(model: Transformer, lora: LoraConfig, *, dtype: torch.dtype = torch.float32) -> Transformer:
    """Freeze ``model`` (changed in place) and add adapters to its linear layers.

    ``dtype`` is the type of activations and of the frozen weights. Raises :class:`~empu.errors.UsageError` for a
    configuration that cannot be used.
    """
    lora.check()
    generator = torch.Generator().manual_seed(lora.seed)
    model.requires_grad_(False)
    for block in model.layers:
        assert isinstance(block, Block)
        for half in (block.attention, block.feed_forward):
            for name, layer in list(half.named_children()):
                assert isinstance(layer, nn.Linear)
                frozen = layer.weight.data.to(dtype)
                adapted = LoraLinear(frozen, lora, generator) if name in lora.targets else FrozenLinear(frozen)
                setattr(half, name, adapted)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return model


def lora_layers(model: Transformer) -> Iterator[tuple[str, LoraLayer]]:
    """Yield (our name of the adapted weight, its adapter) for each adapted layer, in order."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield f"{name}.weight", module
