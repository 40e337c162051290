"""A batch of whole documents, packed end to end: attention for training and scoring, without a cache.

Shape letters as in ``attention.py``; R documents of one group, L tokens of the group's longest document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from empu.model.attention import KeyValues, causal_attention


class PackedDocuments:
    """Documents that do not attend to each other.

    With ``prefix``, the first that many tokens of the batch stand before every document (an instruction that all rows
    share). They are computed once; each document attends to them and to itself.
    """

    def __init__(self, lengths: Sequence[int], *, prefix: int = 0, window: int | None = None) -> None:
        if window is not None and prefix + max(lengths, default=0) > window:
            raise ValueError("documents longer than the sliding window are packed one by one")
        self.lengths = list(lengths)
        self.prefix = prefix
        self.total = prefix + sum(self.lengths)
        self._groups = [_PaddedGroup(self.lengths, members, prefix) for members in _group_by_length(self.lengths)]
        order = torch.cat([group.token_indices for group in self._groups])
        self._inverse_order = torch.empty_like(order)
        self._inverse_order[order - prefix] = torch.arange(len(order))

    def positions(self) -> Tensor:
        """(T,) positions: those of the prefix, then for each document the positions that follow the prefix."""
        documents = [torch.arange(self.prefix, self.prefix + length) for length in self.lengths]
        return torch.cat([torch.arange(self.prefix), *documents])

    def update_cache(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        """Return k, v as they are: whole documents need no cache."""
        return ((k, v),)

    def attend(self, q: Tensor, kv: KeyValues) -> Tensor:
        """(T, H, D)"""
        ((k, v),) = kv
        outputs = [group.attend(q, k, v) for group in self._groups]
        documents = torch.cat(outputs)[self._inverse_order]
        p = self.prefix
        return torch.cat([causal_attention(q[:p], k[:p], v[:p]), documents]) if p else documents


class _PaddedGroup:
    """Documents of similar length, padded to a rectangle for one call of the attention kernel."""

    def __init__(self, lengths: Sequence[int], members: Sequence[int], prefix: int) -> None:
        starts = torch.tensor([0, *lengths]).cumsum(0) + prefix
        sizes = torch.tensor([lengths[i] for i in members])
        longest = int(sizes.max())
        column = torch.arange(longest)
        is_token = column < sizes.unsqueeze(1)
        # Padding repeats the document's last token: no real token attends to it, and its output is dropped.
        self.padded_indices = starts[torch.tensor(members)].unsqueeze(1) + torch.minimum(column, sizes.unsqueeze(1) - 1)
        self.token_cells = is_token.flatten().nonzero().squeeze(1)
        self.token_indices = self.padded_indices.flatten()[self.token_cells]
        self.prefix = prefix
        self.mask: Tensor | None = None
        if prefix:
            causal = torch.ones(longest, longest, dtype=torch.bool).tril()
            self.mask = torch.cat([torch.ones(longest, prefix, dtype=torch.bool), causal], dim=1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(tokens of this group, H, D), in the order of ``token_indices``."""
        rows = len(self.padded_indices)
        q_rhld, k_rkld, v_rkld = (_PadTokens.apply(x, self).transpose(1, 2).float() for x in (q, k, v))  # type: ignore[no-untyped-call]
        if self.prefix:
            prefix_k, prefix_v = (
                x[: self.prefix].transpose(0, 1).float().unsqueeze(0).expand(rows, -1, -1, -1) for x in (k, v)
            )
            k_rkld, v_rkld = torch.cat([prefix_k, k_rkld], dim=2), torch.cat([prefix_v, v_rkld], dim=2)
        out_rhld = F.scaled_dot_product_attention(
            q_rhld,
            k_rkld,
            v_rkld,
            attn_mask=self.mask,
            is_causal=self.mask is None,
            enable_gqa=q_rhld.shape[1] != k_rkld.shape[1],
        )
        return out_rhld.transpose(1, 2).flatten(0, 1)[self.token_cells].type_as(k)


class _PadTokens(torch.autograd.Function):
    """Tokens (T, heads, D) -> rectangle (R, L, heads, D).

    The gradient of a repeated token is known to be zero at its copies. So the backward pass is a gather, and not the
    slow sum of autograd.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: _PaddedGroup) -> Tensor:
        ctx.group, ctx.num_tokens = group, len(x)
        return x[group.padded_indices]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        grad_x = grad.new_zeros(ctx.num_tokens, *grad.shape[2:])
        grad_x[ctx.group.token_indices] = grad.flatten(0, 1)[ctx.group.token_cells]
        return grad_x, None


def _group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Group document indices: the longest of a group has at most 1.5 times the tokens of its shortest, or 48 more."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        shortest = lengths[groups[-1][0]] if groups else 0
        if groups and lengths[i] <= max(1.5 * shortest, shortest + 48):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
