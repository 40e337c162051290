"""How the queries of a batch meet keys and values. The block does not know which of these it was given.

All tokens of a batch lie end to end, (T, heads, head_dim); sequences of any length stand side by side without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from empu.config import ModelConfig
from empu.errors import EmpuError


class Attend(Protocol):
    """Attention of one layer."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(T, n_heads, head_dim) from q (T, n_heads, head_dim) and k, v (T, n_kv_heads, head_dim)."""


def attend_causally(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """One sequence: q (T, n_heads, d) are the last T of the S positions of k, v (S, n_kv_heads, d).

    Each query sees itself and what comes before; with ``window``, only the last ``window`` positions. Scores are scaled
    by 1/sqrt(d).
    """
    queries, positions = q.shape[0], k.shape[0]
    mask = None
    whole = queries == positions and (window is None or positions <= window)
    if not whole and (queries > 1 or (window is not None and positions > window)):
        mask = _visible(queries, positions, window, q.device)
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1).unsqueeze(0),
        k.transpose(0, 1).unsqueeze(0),
        v.transpose(0, 1).unsqueeze(0),
        attn_mask=mask,
        is_causal=whole and queries > 1,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out.squeeze(0).transpose(0, 1)


def _visible(queries: int, positions: int, window: int | None, device: torch.device) -> Tensor:
    row = torch.arange(positions - queries, positions, device=device).unsqueeze(1)
    column = torch.arange(positions, device=device).unsqueeze(0)
    visible = column <= row
    return visible if window is None else visible & (column > row - window)


class Packed:
    """Whole documents end to end, each blind to the others: what training and scoring use."""

    def __init__(self, lengths: Sequence[int], window: int | None = None) -> None:
        self.lengths = list(lengths)
        self.window = window

    def positions(self) -> Tensor:
        """(T,) positions that begin anew with each document."""
        return torch.cat([torch.arange(length) for length in self.lengths])

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        documents = zip(*(torch.split_with_sizes(x, self.lengths) for x in (q, k, v)), strict=True)
        return torch.cat([attend_causally(*document, self.window) for document in documents])


class SequenceCache:
    """Keys and values of one sequence in every layer, grown as it gets longer."""

    def __init__(self, config: ModelConfig, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = capacity
        self.length = 0
        self._config = config
        self._dtype = dtype
        self._device = device
        self._store = self._blank(0)

    def reserve(self, length: int) -> None:
        """Make room for ``length`` positions; raises :class:`EmpuError` where memory does not allow it."""
        have = self._store.shape[2]
        if length <= have:
            return
        wanted = min(self.capacity, max(length, 2 * have, 256))
        try:
            grown = self._blank(wanted)
        except (RuntimeError, MemoryError) as error:
            raise EmpuError(
                f"There is not enough memory for a context of {wanted:,} tokens; lower --context, or free some."
            ) from error
        grown[:, :, : self.length] = self._store[:, :, : self.length]
        self._store = grown

    def put(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append k, v (T, n_kv_heads, d) of one layer; gives all of that layer's (length + T, n_kv_heads, d)."""
        end = self.length + k.shape[0]
        keys, values = self._store[layer]
        keys[self.length : end] = k
        values[self.length : end] = v
        return keys[:end], values[:end]

    def _blank(self, length: int) -> Tensor:
        config = self._config
        shape = (config.n_layers, 2, length, config.n_kv_heads, config.head_dim)
        return torch.empty(shape, dtype=self._dtype, device=self._device)


class Cached:
    """The next tokens of several sequences, each behind what its cache holds."""

    def __init__(self, caches: Sequence[SequenceCache], lengths: Sequence[int], window: int | None = None) -> None:
        self.caches = caches
        self.lengths = list(lengths)
        self.window = window

    def positions(self) -> Tensor:
        """(T,) absolute positions of the tokens."""
        pairs = zip(self.caches, self.lengths, strict=True)
        return torch.cat([torch.arange(cache.length, cache.length + length) for cache, length in pairs])

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = []
        parts = zip(self.caches, *(torch.split_with_sizes(x, self.lengths) for x in (q, k, v)), strict=True)
        for cache, queries, keys, values in parts:
            all_keys, all_values = cache.put(layer, keys, values)
            out.append(attend_causally(queries, all_keys, all_values, self.window))
        return torch.cat(out)
