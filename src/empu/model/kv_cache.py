"""The KV cache of one sequence, and a batch of sequences that continue theirs: inference in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from empu.config import ModelConfig
from empu.errors import CacheFullError
from empu.model.attention import KeyValues, causal_attention


class KVCache:
    """Keys and values of one sequence in all layers. Memory grows with the sequence, up to ``capacity`` tokens."""

    def __init__(self, config: ModelConfig, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = capacity
        self.length = 0
        self._config = config
        self._dtype = dtype
        self._device = device
        self._storage = self._allocate(0)

    def reserve(self, length: int) -> None:
        """Allocate memory for ``length`` positions; raises :class:`CacheFullError` where there is too little."""
        allocated = self._storage.shape[2]
        if length <= allocated:
            return
        new_length = min(self.capacity, max(length, 2 * allocated, 256))
        try:
            grown = self._allocate(new_length)
        except (RuntimeError, MemoryError) as error:
            raise CacheFullError(
                f"There is not enough memory for a context of {new_length:,} tokens; lower --context, or free memory."
            ) from error
        grown[:, :, : self.length] = self._storage[:, :, : self.length]
        self._storage = grown

    def copy_from(self, other: KVCache, length: int) -> None:
        """Replace the content by the first ``length`` positions of another cache."""
        self.reserve(length)
        self._storage[:, :, :length] = other._storage[:, :, :length]
        self.length = length

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append k, v (T, K, D) of one layer; return all keys and values of that layer, (length + T, K, D) each."""
        end = self.length + k.shape[0]
        keys, values = self._storage[layer]
        keys[self.length : end] = k
        values[self.length : end] = v
        return keys[:end], values[:end]

    def _allocate(self, length: int) -> Tensor:
        """(layers, 2, length, K, D), not initialised."""
        config = self._config
        shape = (config.n_layers, 2, length, config.n_kv_heads, config.head_dim)
        return torch.empty(shape, dtype=self._dtype, device=self._device)


class CachedSequences:
    """The next tokens of several sequences, each of which continues its own cache."""

    def __init__(self, caches: Sequence[KVCache], lengths: Sequence[int], window: int | None = None) -> None:
        """``lengths`` are the numbers of new tokens; ``window`` is the model's sliding window."""
        self.caches = caches
        self.lengths = list(lengths)
        self.window = window

    def positions(self) -> Tensor:
        """(T,) absolute positions of the tokens."""
        pairs = zip(self.caches, self.lengths, strict=True)
        return torch.cat([torch.arange(cache.length, cache.length + length) for cache, length in pairs])

    def update_cache(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        """Append each sequence's k, v to its cache; one pair of keys and values per sequence."""
        parts = zip(self.caches, k.split_with_sizes(self.lengths), v.split_with_sizes(self.lengths), strict=True)
        return [cache.update(layer, new_k, new_v) for cache, new_k, new_v in parts]

    def attend(self, q: Tensor, kv: KeyValues) -> Tensor:
        """(T, H, D): each sequence attends to its own cache only."""
        queries = q.split_with_sizes(self.lengths)
        return torch.cat(
            [
                causal_attention(new_q, keys, values, self.window)
                for new_q, (keys, values) in zip(queries, kv, strict=True)
            ]
        )
