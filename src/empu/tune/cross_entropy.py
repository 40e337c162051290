"""Cross-entropy straight from hidden states: logits exist for a few rows at a time, and no more.

The logits of a batch and their gradient would be its largest arrays by far (a row over 49,152 tokens is 192 KiB), and
most of the time goes into memory for them. A frozen output layer needs no gradient, so that of the hidden states can be
had on the way forward, from the same rows of logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 128  # of logits at a time; fewer take longer, for a product first rearranges the whole output layer


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """(N,) float32 losses of ``targets`` (N,) int64, for hidden states (N, dim) and an output layer (vocabulary, dim).

    ``smoothing`` is what :func:`torch.nn.functional.cross_entropy` calls ``label_smoothing``. Where ``weight`` wants a
    gradient all logits are kept.
    """
    if weight.requires_grad:
        logits = F.linear(hidden.to(weight.dtype), weight).float()
        return F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    keep = torch.is_grad_enabled() and hidden.requires_grad
    losses: Tensor = _CrossEntropy.apply(hidden, weight, targets, smoothing, keep)  # type: ignore[no-untyped-call]
    return losses


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, keep: bool) -> Tensor:
        count, vocabulary = len(hidden), len(weight)
        losses = torch.empty(count, device=hidden.device)
        slopes = torch.empty_like(hidden) if keep else None  # of each row's own loss
        room = torch.empty(min(count, ROWS), vocabulary, device=hidden.device)
        for first in range(0, count, ROWS):
            some = slice(first, first + ROWS)
            own = targets[some, None]
            logits = _logits(hidden[some], weight, room)
            logits.sub_(logits.amax(1, keepdim=True))
            seen = logits.gather(1, own).squeeze(1) * (1 - smoothing)
            if smoothing:
                seen += logits.mean(1) * smoothing
            sums = logits.exp_().sum(1)
            losses[some] = sums.log() - seen
            if slopes is None:
                continue
            logits.div_(sums[:, None])
            if smoothing:
                logits.sub_(smoothing / vocabulary)
            logits.scatter_add_(1, own, torch.full_like(own, smoothing - 1, dtype=torch.float32))
            slopes[some] = logits.to(weight.dtype) @ weight
        if slopes is not None:
            ctx.save_for_backward(slopes)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * grads[0][:, None].to(slopes.dtype), None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, room: Tensor) -> Tensor:
    out = room[: len(hidden)]
    if weight.dtype == torch.float32:
        return torch.mm(hidden.float(), weight.T, out=out)
    return out.copy_(hidden.to(weight.dtype) @ weight.T)
