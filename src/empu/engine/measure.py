"""First figures of a model on this machine: how long until it speaks, how fast it reads and writes, how much memory.

Measured at the backend, where tokens go in and logits come out: no text, no sampling, no early end.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from empu import __version__
from empu.engine.backend import Backend, Chunk, Want
from empu.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one model. Rates are tokens per second; the middle of several runs, which are all given."""

    prefill_tokens: int
    decode_tokens: int
    first_token_s: float
    """From a prompt of ``prefill_tokens`` tokens to the first token after it, the model being open."""
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    prefill_runs: tuple[float, ...]
    decode_runs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were measured on."""

    cpu: str
    logical_cpus: int
    memory_bytes: int
    system: str
    python: str
    numpy: str
    empu: str

    @classmethod
    def here(cls) -> Machine:
        return cls(
            cpu=_cpu_name(),
            logical_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            system=platform.platform(),
            python=platform.python_version(),
            numpy=np.__version__,
            empu=__version__,
        )


def measure(backend: Backend, *, prefill_tokens: int = 512, decode_tokens: int = 64, runs: int = 3) -> Speed:
    """Read ``prefill_tokens`` tokens at once, then write ``decode_tokens`` greedily, ``runs`` times after a warm-up.

    Raises :class:`~empu.errors.UsageError` when that does not fit the model's context.
    """
    needed = prefill_tokens + decode_tokens
    if needed > backend.config.context_length:
        raise UsageError(
            f"Measuring needs {needed:,} tokens of context and the model has {backend.config.context_length:,}; lower "
            "--prefill or --decode."
        )
    prompt = np.arange(prefill_tokens, dtype=np.int32) % backend.config.vocab_size
    _run(backend, prompt[: min(16, prefill_tokens)], 2)
    results = [_run(backend, prompt, decode_tokens) for _ in range(runs)]
    prefill = tuple(prefill_tokens / seconds for seconds, _ in results)
    decode = tuple(decode_tokens / seconds for _, seconds in results)
    return Speed(
        prefill_tokens=prefill_tokens,
        decode_tokens=decode_tokens,
        first_token_s=statistics.median(seconds for seconds, _ in results),
        prefill_tokens_per_s=statistics.median(prefill),
        decode_tokens_per_s=statistics.median(decode),
        prefill_runs=prefill,
        decode_runs=decode,
    )


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes


def _run(backend: Backend, prompt: npt.NDArray[np.int32], decode_tokens: int) -> tuple[float, float]:
    """Seconds for reading the prompt and choosing the first token, and for the tokens after it."""
    sequence = backend.allocate(len(prompt) + decode_tokens)
    try:
        begun = time.perf_counter()
        token = _likeliest(backend, Chunk(sequence, prompt, Want.LAST))
        read = time.perf_counter()
        for _ in range(decode_tokens):
            token = _likeliest(backend, Chunk(sequence, np.array([token], dtype=np.int32), Want.LAST))
        return read - begun, time.perf_counter() - read
    finally:
        backend.release(sequence)


def _likeliest(backend: Backend, chunk: Chunk) -> int:
    (logits,) = backend.forward([chunk])
    return int(logits[-1].argmax())


def _cpu_name() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()
