"""How the queries of a batch meet keys and values. The block does not know which of these it was given.

All tokens of a batch lie end to end, (T, heads, head_dim); sequences of any length stand side by side without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from empu.config import ModelConfig
from empu.errors import NoRoomError


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
    """Whole documents end to end, each blind to the others: what training and scoring use.

    With ``prefix`` the first that many tokens of the batch stand before every document (an instruction that all rows
    share): they are computed once, and each document sees them and itself.
    """

    def __init__(self, lengths: Sequence[int], *, prefix: int = 0, window: int | None = None) -> None:
        if window is not None and prefix + max(lengths, default=0) > window:
            raise ValueError("documents longer than the sliding window are packed one by one")
        self.lengths = list(lengths)
        self.prefix = prefix
        self.total = prefix + sum(self.lengths)
        self._grids = [_Grid(self.lengths, members, prefix) for members in _alike(self.lengths)]
        order = torch.cat([grid.tokens for grid in self._grids])
        self._back = torch.empty_like(order)
        self._back[order - prefix] = torch.arange(len(order))

    def positions(self) -> Tensor:
        """(T,) positions: those of the prefix, then of each document behind it."""
        documents = [torch.arange(self.prefix, self.prefix + length) for length in self.lengths]
        return torch.cat([torch.arange(self.prefix), *documents])

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        p = self.prefix
        parts = [grid.attend(q, k, v) for grid in self._grids]
        documents = torch.cat(parts)[self._back]
        return torch.cat([attend_causally(q[:p], k[:p], v[:p]), documents]) if p else documents


class _Grid:
    """Documents of similar length, padded to a rectangle for one call of the attention kernel."""

    def __init__(self, lengths: Sequence[int], members: Sequence[int], prefix: int) -> None:
        starts = torch.tensor([0, *lengths]).cumsum(0) + prefix
        sizes = torch.tensor([lengths[i] for i in members])
        longest = int(sizes.max())
        column = torch.arange(longest)
        filled = column < sizes.unsqueeze(1)
        # Padding repeats the document's last token: never seen by a real one, and never read.
        self.cells = starts[torch.tensor(members)].unsqueeze(1) + torch.minimum(column, sizes.unsqueeze(1) - 1)
        self.filled = filled.flatten().nonzero().squeeze(1)
        self.tokens = self.cells.flatten()[self.filled]
        self.prefix = prefix
        self.mask: Tensor | None = None
        if prefix:
            causal = torch.ones(longest, longest, dtype=torch.bool).tril()
            self.mask = torch.cat([torch.ones(longest, prefix, dtype=torch.bool), causal], dim=1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(tokens of this grid, n_heads, d), in order of ``self.tokens``."""
        rows = len(self.cells)
        q, own_k, own_v = (_Spread.apply(x, self).transpose(1, 2).float() for x in (q, k, v))  # type: ignore[no-untyped-call]
        if self.prefix:
            ahead_k, ahead_v = (
                x[: self.prefix].transpose(0, 1).float().unsqueeze(0).expand(rows, -1, -1, -1) for x in (k, v)
            )
            own_k, own_v = torch.cat([ahead_k, own_k], dim=2), torch.cat([ahead_v, own_v], dim=2)
        met = F.scaled_dot_product_attention(
            q,
            own_k,
            own_v,
            attn_mask=self.mask,
            is_causal=self.mask is None,
            enable_gqa=q.shape[1] != own_k.shape[1],
        )
        return met.transpose(1, 2).flatten(0, 1)[self.filled].type_as(k)


class _Spread(torch.autograd.Function):
    """Tokens (T, heads, d) -> rectangle (rows, longest, heads, d). The gradient of a repeated token is known to be zero
    where it is repeated, so that going back is a gather and not the slow sum that autograd would do.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: _Grid) -> Tensor:
        ctx.grid, ctx.size = grid, len(x)
        return x[grid.cells]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        back = g.new_zeros(ctx.size, *g.shape[2:])
        back[ctx.grid.tokens] = g.flatten(0, 1)[ctx.grid.filled]
        return back, None


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of the documents in groups: the longest has at most 1.5 times the tokens of the shortest, or 48 more."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        shortest = lengths[groups[-1][0]] if groups else 0
        if groups and lengths[i] <= max(1.5 * shortest, shortest + 48):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


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
        """Make room for ``length`` positions; raises :class:`NoRoomError` where memory does not allow it."""
        have = self._store.shape[2]
        if length <= have:
            return
        wanted = min(self.capacity, max(length, 2 * have, 256))
        try:
            grown = self._blank(wanted)
        except (RuntimeError, MemoryError) as error:
            raise NoRoomError(
                f"There is not enough memory for a context of {wanted:,} tokens; lower --context, or free some."
            ) from error
        grown[:, :, : self.length] = self._store[:, :, : self.length]
        self._store = grown

    def copy_from(self, other: SequenceCache, length: int) -> None:
        """Hold the first ``length`` positions of another cache, and nothing else."""
        self.reserve(length)
        self._store[:, :, :length] = other._store[:, :, :length]
        self.length = length

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
