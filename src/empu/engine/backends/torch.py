"""The backend protocol on the reference transformer in PyTorch: on GPUs, and on CPUs without the native engine."""

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
from empu.checkpoint.adapter import Adapter
from empu.config import ModelConfig
from empu.engine.backends.protocol import Chunk, SequenceId, Want
from empu.errors import EmpuError, NoRoomError, UsageError
from empu.model.attention import Cached, SequenceCache
from empu.model.loading import build
from empu.model.transformer import Transformer

LowRanks = Mapping[str, tuple[Tensor, Tensor]]
"""Our name of a weight -> its adapter's A (rank, in) and B (out, rank), whose factor is already in B."""


class Beside:
    """Adds what adapters make of their sequences' rows to the products of a model's linear layers."""

    def __init__(self, model: Transformer) -> None:
        self._batch: list[tuple[slice, LowRanks]] = []
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(partial(self._add, f"{name}.weight"))

    @contextmanager
    def of(self, parts: Sequence[tuple[int, LowRanks]]) -> Iterator[None]:
        """While this is open, a batch has these parts: how many tokens, and the adapter of their sequence."""
        ends = list(itertools.accumulate(count for count, _ in parts))
        rows = [slice(end - count, end) for (count, _), end in zip(parts, ends, strict=True)]
        self._batch = [(part, low) for part, (_, low) in zip(rows, parts, strict=True) if low]
        try:
            yield
        finally:
            self._batch = []

    def _add(self, name: str, layer: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        for rows, low in self._batch:
            if name in low:
                a, b = low[name]
                out[rows] += given[0][rows] @ a.T @ b.T


class TorchBackend:
    """Runs a :class:`Transformer` with one growing cache per sequence."""

    exact = False

    def __init__(self, model: Transformer, *, context: int | None = None) -> None:
        self.model = model
        self.config: ModelConfig = model.config
        weight = model.embedding.weight
        self._device, self._dtype = weight.device, weight.dtype
        self.name = f"torch-{self._device.type}-{str(self._dtype).removeprefix('torch.')}"
        self.context = context or self.config.context_length
        self._caches: dict[SequenceId, SequenceCache] = {}
        self._adapters: dict[SequenceId, LowRanks] = {}
        self._numbers = itertools.count()
        self._beside = Beside(model)
        self._adapter: LowRanks = {}

    def adapted(self, adapter: Adapter) -> Self:
        view = copy.copy(self)
        view._adapter = {
            name: (self._moved(low.a), self._moved(low.b * adapter.scale)) for name, low in adapter.layers.items()
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
                out = self._run(batch, Cached(caches, lengths, self.config.sliding_window))
        except (torch.OutOfMemoryError, MemoryError):
            raise NoRoomError(
                "There is not enough memory to read these tokens; lower --context, or the answers at once."
            ) from None
        for cache, length in zip(caches, lengths, strict=True):
            cache.length += length
        return out

    def _run(self, batch: Sequence[Chunk], attend: Cached) -> list[npt.NDArray[np.float32]]:
        tokens = torch.from_numpy(np.concatenate([chunk.tokens for chunk in batch]).astype(np.int64))
        with self._beside.of([(len(chunk.tokens), self._adapters[chunk.sequence]) for chunk in batch]):
            hidden = self.model.hidden(tokens.to(self._device), attend.positions().to(self._device), attend)
        wanted, counts, start = [], [], 0
        for chunk in batch:
            end = start + len(chunk.tokens)
            first = {Want.NONE: end, Want.LAST: end - 1, Want.ALL: start}[chunk.want]
            wanted.append(hidden[first:end])
            counts.append(end - first)
            start = end
        rows = torch.cat(wanted)
        if not len(rows):
            return [np.empty((0, self.config.vocab_size), dtype=np.float32) for _ in batch]
        logits = self.model.logits(rows).cpu().numpy()
        return np.split(logits, np.cumsum(counts)[:-1])

    def _allocate(self, capacity: int, adapter: LowRanks) -> SequenceId:
        if not 1 <= capacity <= self.context:
            raise UsageError(f"A sequence of {capacity:,} tokens was asked for; the context has {self.context:,}.")
        sequence = SequenceId(next(self._numbers))
        self._caches[sequence] = SequenceCache(self.config, capacity, self._dtype, self._device)
        self._adapters[sequence] = adapter
        return sequence

    def _moved(self, values: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self._device, self._dtype)

    def _check(self, chunk: Chunk) -> SequenceCache:
        cache = self._cache(chunk.sequence)
        tokens = chunk.tokens
        if tokens.ndim != 1 or not len(tokens):
            raise UsageError("A chunk has no tokens; give at least one, in one row.")
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.config.vocab_size:
            wrong = tokens[(tokens < 0) | (tokens >= self.config.vocab_size)][0]
            raise UsageError(f"Token id {wrong} is outside the vocabulary of {self.config.vocab_size:,} tokens.")
        if cache.length + len(tokens) > cache.capacity:
            raise UsageError(
                f"{len(tokens):,} more tokens do not fit: the sequence holds {cache.length:,} of {cache.capacity:,}."
            )
        return cache

    def _cache(self, sequence: SequenceId) -> SequenceCache:
        try:
            return self._caches[sequence]
        except KeyError:
            raise UsageError(f"There is no sequence {sequence}; it was released or never allocated.") from None


def open_torch(
    checkpoint: Checkpoint,
    *,
    threads: int | None = None,
    context: int | None = None,
) -> TorchBackend:
    """Load a checkpoint: in bfloat16 on a GPU, in float32 on a CPU, and there in bfloat16 where float32 does not fit.

    Raises :class:`EmpuError` when the weights do not fit the memory at all.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else _cpu_dtype(checkpoint.config)
    tensors = ((tensor.name, tensor.float32()) for tensor in checkpoint.tensors())
    return TorchBackend(build(checkpoint.config, tensors, dtype=dtype, device=device), context=context)


def _cpu_dtype(config: ModelConfig) -> torch.dtype:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    need = config.parameter_count()
    if 4 * need < 0.8 * memory:
        return torch.float32
    if 2 * need < 0.8 * memory:
        return torch.bfloat16
    raise EmpuError(
        f"The model has {need:,} parameters, {2 * need / 2**30:.0f} GiB in 16 bits, and this machine has "
        f"{memory / 2**30:.0f} GiB of memory; use a smaller model, or the native engine, which keeps quantised weights."
    )
