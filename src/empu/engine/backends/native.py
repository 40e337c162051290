"""The backend protocol on the compiled engine in ``native/``: for CPUs.

Logits depend on the model and the tokens of a sequence only. They are the same bits for any division of a prompt into
chunks, any batch, any number of threads and any instruction set. Only AMX sums attention in another order.
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
from empu.checkpoint.lora_adapter import LoraAdapter
from empu.config import ModelConfig
from empu.engine import _native
from empu.engine.backends.native_weights import build_native_model, packed_size_bytes, rope_frequencies
from empu.engine.backends.options import DEFAULT_OPTIONS, BackendOptions
from empu.engine.backends.protocol import Chunk, LogitsNeeded, SequenceId
from empu.errors import CacheFullError, EmpuError, UsageError
from empu.system.cpu import available_cpus

_LOGITS_CODES = {LogitsNeeded.NONE: 0, LogitsNeeded.LAST: 1, LogitsNeeded.ALL: 2}
_CACHE_MEMORY_FRACTION = 0.8
"""Fraction of the available memory that the caches of all sequences together may take."""


class NativeBackend:
    """Runs packed weights. The KV cache is paged; forked sequences share its blocks."""

    batch_invariant = True

    def __init__(
        self,
        config: ModelConfig,
        model: _native.Model,
        *,
        threads: int | None = None,
        context_length: int | None = None,
        instruction_set: str = "",
        kv_cache: str = "bf16",
        max_cache_bytes: int | None = None,
    ) -> None:
        """Create an engine for ``model``.

        ``instruction_set`` is one of :func:`available_instruction_sets`, by default the best. ``kv_cache`` as in
        :class:`BackendOptions`. ``max_cache_bytes`` limits the caches of all sequences together, by default to 80 % of
        the available memory.
        """
        self.config = config
        self._model = model
        self._adapter: _native.LoraAdapter | None = None
        self.context_length = context_length or config.context_length
        with _translate_errors():
            self._engine = _native.Engine(
                model=model,
                rope_frequencies=rope_frequencies(config),
                threads=threads or min(available_cpus(), _native.max_threads),
                instruction_set=instruction_set,
                kv_cache=kv_cache,
                max_cache_bytes=_default_cache_bytes(model) if max_cache_bytes is None else max_cache_bytes,
            )
        self.instruction_set = self._engine.instruction_set
        self.threads = self._engine.threads
        self.name = f"native-cpu-{self.instruction_set}"

    @property
    def weight_bytes_per_step(self) -> int:
        """Bytes of weights that a step reads: all matrices, without an embedding that is not the output layer too."""
        return self._model.decode_bytes()

    @property
    def cache_bytes_per_token(self) -> int:
        """Memory for keys and values of one token, scales included. It is allocated for 64 tokens at a time."""
        return self._engine.cache_block_bytes // 64

    def with_adapter(self, adapter: LoraAdapter) -> Self:
        with _translate_errors():
            native_adapter = _native.LoraAdapter(self._model)
            for name, lora in adapter.layers.items():
                a = np.ascontiguousarray(lora.a, dtype=np.float32)
                b = np.ascontiguousarray(lora.b * np.float32(adapter.scale))
                native_adapter.add(name, adapter.rank, a.reshape(-1), b.reshape(-1))
        view = copy.copy(self)
        view._adapter = native_adapter
        return view

    def allocate(self, capacity: int) -> SequenceId:
        self._check_capacity(capacity)
        with _translate_errors():
            return SequenceId(self._engine.allocate(capacity, self._adapter))

    def release(self, sequence: SequenceId) -> None:
        with _translate_errors():
            self._engine.release(sequence)

    def fork(self, sequence: SequenceId, length: int, capacity: int) -> SequenceId:
        self._check_capacity(capacity)
        with _translate_errors():
            return SequenceId(self._engine.fork(sequence, length, capacity))

    def length(self, sequence: SequenceId) -> int:
        with _translate_errors():
            return self._engine.length(sequence)

    def truncate(self, sequence: SequenceId, length: int) -> None:
        with _translate_errors():
            self._engine.truncate(sequence, length)

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        counts = [_num_logits(chunk) for chunk in batch]
        for chunk in batch:
            if chunk.tokens.ndim != 1:
                raise UsageError("The tokens of a chunk must be a one-dimensional array.")
        with _translate_errors():
            logits = np.empty((sum(counts), self._engine.logit_stride), dtype=np.float32)
            self._engine.forward(
                [chunk.sequence for chunk in batch],
                [_to_int32(chunk.tokens) for chunk in batch],
                [_LOGITS_CODES[chunk.logits_needed] for chunk in batch],
                logits,
            )
        ends = np.cumsum(counts)
        return [logits[end - count : end, : self.config.vocab_size] for count, end in zip(counts, ends, strict=True)]

    def _check_capacity(self, capacity: int) -> None:
        if not 1 <= capacity <= self.context_length:
            raise UsageError(
                f"A sequence of {capacity:,} tokens does not fit the context of {self.context_length:,} tokens."
            )


def open_native(
    checkpoint: Checkpoint,
    *,
    threads: int | None = None,
    context_length: int | None = None,
    instruction_set: str = "",
    options: BackendOptions = DEFAULT_OPTIONS,
) -> NativeBackend:
    """Load a checkpoint. Raises :class:`EmpuError` when the weights do not fit the memory."""
    required, available = packed_size_bytes(checkpoint, options.quant), _available_memory()
    if required > available:
        advice = "" if options.quant == "q4" else "ask for fewer bits with --quant q4, or "
        raise EmpuError(
            f"{checkpoint.path} needs {required / 2**30:.1f} GiB for its weights and {available / 2**30:.1f} GiB of "
            f"memory are free; {advice}use a smaller model."
        )
    with _translate_errors():
        model = build_native_model(checkpoint, options)
    return NativeBackend(
        checkpoint.config,
        model,
        threads=threads,
        context_length=context_length,
        instruction_set=instruction_set,
        kv_cache=options.kv_cache,
    )


def available_instruction_sets() -> list[str]:
    """Return the instruction sets that this build has and this processor supports, best first."""
    return _native.available_instruction_sets()


def reference_instruction_set(instruction_set: str) -> str:
    """Return the portable instruction set that gives the same bits as ``instruction_set``."""
    return _native.reference_instruction_set(instruction_set)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise the compiled engine's errors as ours."""
    try:
        yield
    except _native.CacheFullError as error:
        raise CacheFullError(str(error)) from None
    except _native.Error as error:
        raise UsageError(str(error)) from None
    except MemoryError:
        raise CacheFullError(
            "There is not enough memory for this model and its sequences; use a smaller model or a shorter context."
        ) from None


def _num_logits(chunk: Chunk) -> int:
    """Rows of logits that a chunk returns."""
    return {LogitsNeeded.NONE: 0, LogitsNeeded.LAST: 1, LogitsNeeded.ALL: len(chunk.tokens)}[chunk.logits_needed]


def _to_int32(tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Convert to int32. Ids beyond 32 bits are clipped, so that they do not wrap into valid ones."""
    if tokens.dtype != np.int32:
        tokens = np.clip(tokens, -1, np.iinfo(np.int32).max).astype(np.int32)
    return np.ascontiguousarray(tokens)


def _default_cache_bytes(model: _native.Model) -> int:
    """The system counts pages of mapped files as available, but those of the weights are not."""
    return int(_CACHE_MEMORY_FRACTION * max(0, _available_memory() - model.mapped_bytes()))


def _available_memory() -> int:
    """Bytes that can be allocated without swapping; half of all memory where the system does not say."""
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
