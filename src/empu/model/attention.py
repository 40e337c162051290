"""Causal attention, and the protocol by which the transformer block sees the sequences of its batch.

The tokens of all sequences lie end to end, without padding. Shape letters: T tokens of the batch, S visible positions,
H query heads, K key/value heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

KeyValues = Sequence[tuple[Tensor, Tensor]]
"""Keys and values (S, K, D) that a batch may attend to: one pair per cache, or one pair for all documents."""


class SequenceBatch(Protocol):
    """Knows which tokens of a batch belong to one sequence. The transformer block does not."""

    def update_cache(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        """Store the new k, v (T, K, D) of a layer, where there is a cache; return all keys and values of that layer."""

    def attend(self, q: Tensor, kv: KeyValues) -> Tensor:
        """Return the attention output (T, H, D) of the queries q (T, H, D)."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """Attention of one sequence: q (T, H, D) are the last T of the S positions of k, v (S, K, D).

    A query sees its own and earlier positions; with ``window``, only the last ``window`` of them. Scores are scaled by
    1/sqrt(D).
    """
    num_queries, num_positions = q.shape[0], k.shape[0]
    mask = None
    is_square = num_queries == num_positions and (window is None or num_positions <= window)
    if not is_square and (num_queries > 1 or (window is not None and num_positions > window)):
        mask = _causal_mask(num_queries, num_positions, window, q.device)
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1).unsqueeze(0),
        k.transpose(0, 1).unsqueeze(0),
        v.transpose(0, 1).unsqueeze(0),
        attn_mask=mask,
        is_causal=is_square and num_queries > 1,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out.squeeze(0).transpose(0, 1)


def _causal_mask(num_queries: int, num_positions: int, window: int | None, device: torch.device) -> Tensor:
    """(T, S) bool: true where a query may see a position."""
    query = torch.arange(num_positions - num_queries, num_positions, device=device).unsqueeze(1)
    position = torch.arange(num_positions, device=device).unsqueeze(0)
    visible = position <= query
    return visible if window is None else visible & (position > query - window)
