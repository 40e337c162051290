"""The backend protocol on the compiled engine in native/: what CPUs run.

Its results depend on nothing but the model and a sequence's tokens: the same logits, bit for bit, whether a prompt is
read in one piece or in several, alone or beside others, by one thread or more, and on any instruction set; only AMX
adds up attention in an order of its own.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from empu.checkpoint import Checkpoint
from empu.checkpoint.adapter import Adapter
from empu.config import ModelConfig
from empu.engine import _native
from empu.engine.backends.native_weights import build_model, packed_bytes, rotary_frequencies
from empu.engine.backends.protocol import Chunk, SequenceId, Want
from empu.engine.backends.storage import AS_IT_IS, Storage
from empu.errors import EmpuError, NoRoomError, UsageError
from empu.system.cpu import processors

_WANTS = {Want.NONE: 0, Want.LAST: 1, Want.ALL: 2}
_MEMORY_SHARE = 0.8  # of the free memory, for the caches of all sequences together


class NativeBackend:
    """Runs packed weights; the cache is kept in 16-bit floats, or in 8 bits, in blocks that sequences forked alike
    share.
    """

    exact = True

    def __init__(
        self,
        config: ModelConfig,
        model: _native.Model,
        *,
        threads: int | None = None,
        context: int | None = None,
        instructions: str = "",
        kv: str = "bf16",
        cache_bytes: int | None = None,
    ) -> None:
        """``instructions`` names one of :func:`available_instructions`, the best by default; ``kv`` as in
        :class:`Storage`; ``cache_bytes`` bounds the caches of all sequences together, four fifths of the free memory by
        default.
        """
        self.config = config
        self._model = model
        self._adapter: _native.Adapter | None = None
        self.context = context or config.context_length
        with _told():
            self._engine = _native.Engine(
                model=model,
                frequencies=rotary_frequencies(config),
                threads=threads or min(processors(), _native.most_threads),
                ops=instructions,
                cache=kv,
                cache_limit=_cache_limit(model) if cache_bytes is None else cache_bytes,
            )
        self.instructions = self._engine.ops
        self.threads = self._engine.threads
        self.name = f"native-cpu-{self.instructions}"

    @property
    def weight_bytes(self) -> int:
        """What a step reads of the model: all matrices, without an embedding that is not the output layer too."""
        return self._model.read_bytes()

    @property
    def cache_bytes_per_token(self) -> int:
        """Memory for keys and values of one token, scales included; it is taken for 64 tokens at a time."""
        return self._engine.cache_block_bytes // 64

    def adapted(self, adapter: Adapter) -> Self:
        with _told():
            beside = _native.Adapter(self._model)
            for name, low in adapter.layers.items():
                a = np.ascontiguousarray(low.a, dtype=np.float32)
                b = np.ascontiguousarray(low.b * np.float32(adapter.scale))
                beside.add(name, adapter.rank, a.reshape(-1), b.reshape(-1))
        view = copy.copy(self)
        view._adapter = beside
        return view

    def allocate(self, capacity: int) -> SequenceId:
        if not 1 <= capacity <= self.context:
            raise UsageError(f"A sequence of {capacity:,} tokens was asked for; the context has {self.context:,}.")
        with _told():
            return SequenceId(self._engine.allocate(capacity, self._adapter))

    def release(self, sequence: SequenceId) -> None:
        with _told():
            self._engine.release(sequence)

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        if not 1 <= capacity <= self.context:
            raise UsageError(f"A sequence of {capacity:,} tokens was asked for; the context has {self.context:,}.")
        with _told():
            return SequenceId(self._engine.fork(sequence, length, capacity))

    def length(self, sequence: SequenceId) -> int:
        with _told():
            return self._engine.length(sequence)

    def truncate(self, sequence: SequenceId, length: int) -> None:
        with _told():
            self._engine.truncate(sequence, length)

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        counts = [{Want.NONE: 0, Want.LAST: 1, Want.ALL: len(chunk.tokens)}[chunk.want] for chunk in batch]
        for chunk in batch:
            if chunk.tokens.ndim != 1:
                raise UsageError("A chunk has tokens in several rows; give them in one.")
        with _told():
            logits = np.empty((sum(counts), self._engine.logit_stride), dtype=np.float32)
            self._engine.forward(
                [chunk.sequence for chunk in batch],
                [_int32(chunk.tokens) for chunk in batch],
                [_WANTS[chunk.want] for chunk in batch],
                logits,
            )
        ends = np.cumsum(counts)
        return [logits[end - count : end, : self.config.vocab_size] for count, end in zip(counts, ends, strict=True)]


def open_native(
    checkpoint: Checkpoint,
    *,
    threads: int | None = None,
    context: int | None = None,
    instructions: str = "",
    storage: Storage = AS_IT_IS,
) -> NativeBackend:
    """Load a checkpoint. Raises :class:`EmpuError` when the weights do not fit the memory."""
    need, free = packed_bytes(checkpoint, storage.quant), _free_memory()
    if need > free:
        raise EmpuError(
            f"{checkpoint.path} needs {need / 2**30:.1f} GiB for its weights and {free / 2**30:.1f} GiB of memory are "
            f"free; {'use' if storage.quant == 'q4' else 'ask for fewer bits with --quant q4, or use'} a smaller model."
        )
    with _told():
        model = build_model(checkpoint, storage)
    return NativeBackend(
        checkpoint.config, model, threads=threads, context=context, instructions=instructions, kv=storage.kv
    )


def available_instructions() -> list[str]:
    """The instruction sets that this build has and this processor can run, best first."""
    return _native.available_ops()


def oracle_of(instructions: str) -> str:
    """The plain instruction set whose bits this one gives."""
    return _native.oracle_of(instructions)


@contextmanager
def _told() -> Iterator[None]:
    """What the engine refuses, as our own errors."""
    try:
        yield
    except _native.NoRoomError as error:
        raise NoRoomError(str(error)) from None
    except _native.Error as error:
        raise UsageError(str(error)) from None
    except MemoryError:
        raise NoRoomError(
            "There is not enough memory for this model and its sequences; use a smaller model or a shorter context."
        ) from None


def _int32(tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Ids beyond 32 bits must not wrap into valid ones."""
    if tokens.dtype != np.int32:
        tokens = np.clip(tokens, -1, np.iinfo(np.int32).max).astype(np.int32)
    return np.ascontiguousarray(tokens)


def _cache_limit(model: _native.Model) -> int:
    """The system counts the pages of mapped files as free, and those of the weights are not."""
    return int(_MEMORY_SHARE * max(0, _free_memory() - model.mapped_bytes()))


def _free_memory() -> int:
    """Bytes that can be had without taking them from others; half of all memory where the system does not say."""
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
