"""The backend protocol on the reference transformer in PyTorch: on GPUs, and on CPUs without the native engine."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from empu.checkpoint import Checkpoint, StoredTensor
from empu.checkpoint.adapter import Adapter
from empu.config import ModelConfig
from empu.engine.backend import Chunk, SequenceId, Want
from empu.errors import EmpuError, UsageError
from empu.model.attention import Cached, SequenceCache
from empu.model.loading import build
from empu.model.transformer import Transformer


class TorchBackend:
    """Runs a :class:`Transformer` with one growing cache per sequence."""

    def __init__(self, model: Transformer, *, context: int | None = None) -> None:
        self.model = model
        self.config: ModelConfig = model.config
        weight = model.embedding.weight
        self._device, self._dtype = weight.device, weight.dtype
        self.name = f"torch-{self._device.type}-{str(self._dtype).removeprefix('torch.')}"
        self._context = context or self.config.context_length
        self._caches: dict[SequenceId, SequenceCache] = {}
        self._next = 0

    def allocate(self, capacity: int) -> SequenceId:
        if not 1 <= capacity <= self._context:
            raise UsageError(f"A sequence of {capacity:,} tokens was asked for; the context has {self._context:,}.")
        sequence = SequenceId(self._next)
        self._next += 1
        self._caches[sequence] = SequenceCache(self.config, capacity, self._dtype, self._device)
        return sequence

    def release(self, sequence: SequenceId) -> None:
        self._cache(sequence)
        del self._caches[sequence]

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        cache = self._cache(sequence)
        if not 0 <= length <= min(cache.length, capacity):
            raise UsageError(f"The sequence has {cache.length:,} tokens; {length:,} cannot be taken from it.")
        forked = self.allocate(capacity)
        self._caches[forked].copy_from(cache, length)
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
        with torch.inference_mode():
            out = self._run(batch, Cached(caches, lengths, self.config.sliding_window))
        for cache, length in zip(caches, lengths, strict=True):
            cache.length += length
        return out

    def _run(self, batch: Sequence[Chunk], attend: Cached) -> list[npt.NDArray[np.float32]]:
        tokens = torch.from_numpy(np.concatenate([chunk.tokens for chunk in batch]).astype(np.int64))
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
    adapter: Adapter | None = None,
    threads: int | None = None,
    context: int | None = None,
) -> TorchBackend:
    """Load a checkpoint: in bfloat16 on a GPU, in float32 on a CPU, and there in bfloat16 where float32 does not fit.

    An ``adapter`` is added to the weights in float32.

    Raises :class:`EmpuError` when the weights do not fit the memory at all.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else _cpu_dtype(checkpoint.config)
    values = adapter.merged if adapter is not None else StoredTensor.float32
    tensors = ((tensor.name, values(tensor)) for tensor in checkpoint.tensors())
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
