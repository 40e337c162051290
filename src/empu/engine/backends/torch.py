"""The backend protocol on the reference transformer in PyTorch: for GPUs, and for CPUs without the native engine."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from empu.checkpoint import Checkpoint
from empu.checkpoint.lora_adapter import LoraAdapter
from empu.config import ModelConfig
from empu.engine.backends.protocol import Chunk, LogitsNeeded, SequenceId
from empu.errors import CacheFullError, EmpuError, UsageError
from empu.model.kv_cache import CachedSequences, KVCache
from empu.model.loading import build_transformer
from empu.model.transformer import Transformer

LoraTensors = Mapping[str, tuple[Tensor, Tensor]]
"""Our name of a weight -> its adapter's A (rank, in) and B (out, rank); B is already multiplied by the scale."""


class TorchBackend:
    """Runs a :class:`Transformer` with one growing KV cache per sequence."""

    batch_invariant = False

    def __init__(self, model: Transformer, *, context_length: int | None = None) -> None:
        self.model = model
        self.config: ModelConfig = model.config
        weight = model.embedding.weight
        self._device, self._dtype = weight.device, weight.dtype
        self.name = f"torch-{self._device.type}-{str(self._dtype).removeprefix('torch.')}"
        self.context_length = context_length or self.config.context_length
        self._caches: dict[SequenceId, KVCache] = {}
        self._adapters: dict[SequenceId, LoraTensors] = {}
        self._next_id = itertools.count()
        self._lora_hooks = LoraHooks(model)
        self._adapter: LoraTensors = {}

    def with_adapter(self, adapter: LoraAdapter) -> Self:
        view = copy.copy(self)
        view._adapter = {
            name: (self._to_tensor(lora.a), self._to_tensor(lora.b * adapter.scale))
            for name, lora in adapter.layers.items()
        }
        return view

    def allocate(self, capacity: int) -> SequenceId:
        return self._allocate(capacity, self._adapter)

    def release(self, sequence: SequenceId) -> None:
        self._cache(sequence)
        del self._caches[sequence], self._adapters[sequence]

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        cache = self._cache(sequence)
        if not 0 <= length <= min(cache.length, capacity):
            raise UsageError(f"The sequence has {cache.length:,} tokens; {length:,} cannot be taken from it.")
        forked = self._allocate(capacity, self._adapters[sequence])
        try:
            self._caches[forked].copy_from(cache, length)
        except EmpuError:
            self.release(forked)
            raise
        return forked

    def length(self, sequence: SequenceId) -> int:
        return self._cache(sequence).length

    def truncate(self, sequence: SequenceId, length: int) -> None:
        cache = self._cache(sequence)
        if not 0 <= length <= cache.length:
            raise UsageError(f"The sequence has {cache.length:,} tokens; it cannot be cut to {length:,}.")
        cache.length = length

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        if not batch:
            return []
        caches = [self._check(chunk) for chunk in batch]
        if len({chunk.sequence for chunk in batch}) != len(batch):
            raise UsageError("Two chunks of one batch belong to the same sequence; put them into two batches.")
        lengths = [len(chunk.tokens) for chunk in batch]
        for cache, length in zip(caches, lengths, strict=True):
            cache.reserve(cache.length + length)
        try:
            with torch.inference_mode():
                logits = self._forward(batch, CachedSequences(caches, lengths, self.config.sliding_window))
        except (torch.OutOfMemoryError, MemoryError):
            raise CacheFullError(
                "There is not enough memory to process these tokens; lower --context, or the number of parallel "
                "requests."
            ) from None
        for cache, length in zip(caches, lengths, strict=True):
            cache.length += length
        return logits

    def _forward(self, batch: Sequence[Chunk], sequences: CachedSequences) -> list[npt.NDArray[np.float32]]:
        tokens = torch.from_numpy(np.concatenate([chunk.tokens for chunk in batch]).astype(np.int64))
        positions = sequences.positions()
        with self._lora_hooks.active([(len(chunk.tokens), self._adapters[chunk.sequence]) for chunk in batch]):
            hidden = self.model.hidden_states(tokens.to(self._device), positions.to(self._device), sequences)
        selected, counts, start = [], [], 0
        for chunk in batch:
            end = start + len(chunk.tokens)
            needed = chunk.logits_needed
            first = {LogitsNeeded.NONE: end, LogitsNeeded.LAST: end - 1, LogitsNeeded.ALL: start}[needed]
            selected.append(hidden[first:end])
            counts.append(end - first)
            start = end
        rows = torch.cat(selected)
        if not len(rows):
            return [np.empty((0, self.config.vocab_size), dtype=np.float32) for _ in batch]
        logits = self.model.logits(rows).cpu().numpy()
        return np.split(logits, np.cumsum(counts)[:-1])

    def _allocate(self, capacity: int, adapter: LoraTensors) -> SequenceId:
        if not 1 <= capacity <= self.context_length:
            raise UsageError(
                f"A sequence of {capacity:,} tokens does not fit the context of {self.context_length:,} tokens."
            )
        sequence = SequenceId(next(self._next_id))
        self._caches[sequence] = KVCache(self.config, capacity, self._dtype, self._device)
        self._adapters[sequence] = adapter
        return sequence

    def _to_tensor(self, values: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self._device, self._dtype)

    def _check(self, chunk: Chunk) -> KVCache:
        cache = self._cache(chunk.sequence)
        tokens = chunk.tokens
        if tokens.ndim != 1 or not len(tokens):
            raise UsageError("The tokens of a chunk must be a one-dimensional array that is not empty.")
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.config.vocab_size:
            wrong = tokens[(tokens < 0) | (tokens >= self.config.vocab_size)][0]
            raise UsageError(f"Token id {wrong} is outside the vocabulary of {self.config.vocab_size:,} tokens.")
        if cache.length + len(tokens) > cache.capacity:
            raise UsageError(
                f"{len(tokens):,} more tokens do not fit: the sequence holds {cache.length:,} of {cache.capacity:,}."
            )
        return cache

    def _cache(self, sequence: SequenceId) -> KVCache:
        try:
            return self._caches[sequence]
        except KeyError:
            raise UsageError(f"There is no sequence {sequence}; it was released or never allocated.") from None


class LoraHooks:
    """Forward hooks on the linear layers of a model that add the LoRA product to the rows of adapted sequences."""

    def __init__(self, model: Transformer) -> None:
        self._parts: list[tuple[slice, LoraTensors]] = []
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(partial(self._add_lora, f"{name}.weight"))

    @contextmanager
    def active(self, parts: Sequence[tuple[int, LoraTensors]]) -> Iterator[None]:
        """Apply adapters inside the block. ``parts`` are (number of tokens, adapter) of each chunk of the batch."""
        ends = list(itertools.accumulate(count for count, _ in parts))
        rows = [slice(end - count, end) for (count, _), end in zip(parts, ends, strict=True)]
        self._parts = [(part, lora) for part, (_, lora) in zip(rows, parts, strict=True) if lora]
        try:
            yield
        finally:
            self._parts = []

    def _add_lora(self, name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        for rows, lora in self._parts:
            if name in lora:
                a, b = lora[name]
                output[rows] += inputs[0][rows] @ a.T @ b.T


def open_torch(
    checkpoint: Checkpoint,
    *,
    threads: int | None = None,
    context_length: int | None = None,
) -> TorchBackend:
    """Load a checkpoint: in bfloat16 on a GPU; on a CPU in float32, or in bfloat16 where float32 does not fit.

    Raises :class:`EmpuError` when the weights do not fit the memory.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else _cpu_dtype(checkpoint.config)
    tensors = ((tensor.name, tensor.float32()) for tensor in checkpoint.tensors())
    model = build_transformer(checkpoint.config, tensors, dtype=dtype, device=device)
    return TorchBackend(model, context_length=context_length)


def _cpu_dtype(config: ModelConfig) -> torch.dtype:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    num_parameters = config.parameter_count()
    if 4 * num_parameters < 0.8 * memory:
        return torch.float32
    if 2 * num_parameters < 0.8 * memory:
        return torch.bfloat16
    raise EmpuError(
        f"The model has {num_parameters:,} parameters, {2 * num_parameters / 2**30:.0f} GiB in 16 bits, and this "
        f"machine has {memory / 2**30:.0f} GiB of memory; use a smaller model, or the native engine, which keeps "
        "weights quantised."
    )
