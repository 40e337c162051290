"""Cross-entropy computed from hidden states, with the logits of a few rows in memory at a time.

The logits of a batch and their gradient would be by far its largest arrays (a row over 49,152 tokens is 192 KiB), and
memory traffic for them would take most of the time. A frozen output layer needs no gradient, so the gradient of the
hidden states is computed in the forward pass, from the same rows of logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ROWS = 128
"""Rows of logits at a time. Fewer are slower, because each product first rearranges the whole output layer."""


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """(N,) float32 losses of ``targets`` (N,) int64, for hidden states (N, dim) and an output layer (vocabulary, dim).

    ``label_smoothing`` as in :func:`torch.nn.functional.cross_entropy`. All logits are kept if ``weight`` requires a
    gradient.
    """
    if weight.requires_grad:
        logits = F.linear(hidden.to(weight.dtype), weight).float()
        return F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    with_grad = torch.is_grad_enabled() and hidden.requires_grad
    losses: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, label_smoothing, with_grad)  # type: ignore[no-untyped-call]
    return losses


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, label_smoothing: float, with_grad: bool
    ) -> Tensor:
        count, vocabulary = len(hidden), len(weight)
        losses = torch.empty(count, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if with_grad else None  # of each row's own loss
        buffer = torch.empty(min(count, CHUNK_ROWS), vocabulary, device=hidden.device)
        for start in range(0, count, CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            chunk_targets = targets[chunk, None]
            logits = _logits(hidden[chunk], weight, buffer)
            logits.sub_(logits.amax(1, keepdim=True))
            target_logits = logits.gather(1, chunk_targets).squeeze(1) * (1 - label_smoothing)
            if label_smoothing:
                target_logits += logits.mean(1) * label_smoothing
            sums = logits.exp_().sum(1)
            losses[chunk] = sums.log() - target_logits
            if grad_hidden is None:
                continue
            # From here on ``logits`` holds the gradient of the logits: softmax minus target distribution.
            logits.div_(sums[:, None])
            if label_smoothing:
                logits.sub_(label_smoothing / vocabulary)
            logits.scatter_add_(
                1, chunk_targets, torch.full_like(chunk_targets, label_smoothing - 1, dtype=torch.float32)
            )
            grad_hidden[chunk] = logits.to(weight.dtype) @ weight
        if grad_hidden is not None:
            ctx.save_for_backward(grad_hidden)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_hidden,) = ctx.saved_tensors
        return grad_hidden * grads[0][:, None].to(grad_hidden.dtype), None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, buffer: Tensor) -> Tensor:
    out = buffer[: len(hidden)]
    if weight.dtype == torch.float32:
        return torch.mm(hidden.float(), weight.T, out=out)
    return out.copy_(hidden.to(weight.dtype) @ weight.T)
