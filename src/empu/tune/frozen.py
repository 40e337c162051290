"""Linear layers whose weights do not change: only their product and its gradient to the input are needed.

Two precisions. ``float``: the weights in the type of the activations. ``int8``: weights in 8 bits by output row for the
forward product and by input column for the gradient, activations and gradients in 8 bits by token; the sums are exact
in int32 ("SwitchBack", Wortsman et al. 2023, without its weight gradient, which frozen weights do not have).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

FrozenPrecision = Literal["float", "int8"]


class Frozen(ABC):
    """A constant matrix W (out, in)."""

    shape: tuple[int, int]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x W^T: (T, out) from (T, in)."""

    @abstractmethod
    def backward(self, g: Tensor) -> Tensor:
        """g W: (T, in) from (T, out)."""

    @abstractmethod
    def weight(self) -> Tensor:
        """(out, in) float32, as the products see it."""


class FrozenFloat(Frozen):
    """Weights in a float type."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.shape = (weight.shape[0], weight.shape[1])
        self._weight = weight.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self._weight.t()

    def backward(self, g: Tensor) -> Tensor:
        return g @ self._weight

    def weight(self) -> Tensor:
        return self._weight.float()


class FrozenInt8(Frozen):
    """Weights in 8 bits, twice: scaled by output row and by input column."""

    def __init__(self, weight: Tensor) -> None:
        self.shape = (weight.shape[0], weight.shape[1])
        self._by_row, self._row_scale = quantise_rows(weight.float())
        self._by_column, self._column_scale = quantise_rows(weight.float().t().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return _product(x, self._by_row, self._row_scale)

    def backward(self, g: Tensor) -> Tensor:
        return _product(g, self._by_column, self._column_scale)

    def weight(self) -> Tensor:
        return self._by_row.float() * self._row_scale.unsqueeze(1)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> int8 (N, K) and float32 scales (N,), rounding to nearest; a row of zeros has the scale 0."""
    scale = x.abs().amax(-1).float() / 127
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    return (x * inverse.unsqueeze(1)).round_().to(torch.int8), scale


def _product(x: Tensor, weight: Tensor, weight_scale: Tensor) -> Tensor:
    quantised, scale = quantise_rows(x)
    if len(x) <= 16:  # torch._int_mm wants more rows than 16 on CUDA; a padded product is the same
        quantised = torch.nn.functional.pad(quantised, (0, 0, 0, 17 - len(x)))
    sums = torch._int_mm(quantised, weight.t())[: len(x)]
    return (sums.float() * scale.unsqueeze(1) * weight_scale).to(x.dtype)
