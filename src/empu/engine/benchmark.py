"""A model's speed on this machine, beside what the machine's memory and multipliers allow.

Measured at the backend, where tokens go in and logits come out: no text, no sampling, no early end.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from empu import __version__
from empu.config import ModelConfig
from empu.engine.backends.protocol import Backend, Chunk, SequenceId, Want
from empu.errors import UsageError
from empu.system.cpu import cpu_name, processors

Tokens = npt.NDArray[np.integer]

WRITTEN = 48
"""Tokens that are written to measure writing, unless ``LONGEST_S`` comes first."""
LONGEST_S = 2.0
"""Seconds of writing in one measurement; at least ``FEWEST`` tokens are written whatever they take."""
FEWEST = 4


@dataclass(frozen=True, slots=True)
class Case:
    """Reading ``context`` tokens at once or, with ``write``, writing after them, in ``streams`` sequences together.

    Of several sequences ``context`` is the mean: they are from half to three halves as long.
    """

    write: bool
    context: int
    streams: int = 1

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence before the first that is written."""
        if self.streams == 1:
            return [self.context]
        half = self.context // 2
        return [half + 2 * half * stream // (self.streams - 1) for stream in range(self.streams)]

    @property
    def longest(self) -> int:
        """Tokens that the longest sequence has in the end."""
        return max(self.lengths) + WRITTEN

    def __str__(self) -> str:
        what = f"writing after {self.context:,}" if self.write else f"reading {self.context:,}"
        return what + (f", {self.streams} together" if self.streams > 1 else "")


CASES = (Case(False, 128), Case(False, 512), Case(True, 128), Case(True, 1024), Case(True, 128, 8))


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine can do by itself, measured with the engine's threads."""

    bytes_per_s: float
    """Reading as many bytes as the model's weights have, in order."""
    int8_operations_per_s: float
    """Multiplications and additions of 8-bit numbers that lie in registers."""
    weight_bytes: int
    """What each step reads."""
    cache_bytes_per_token: int
    """Of what it reads for each token before it."""

    @classmethod
    def of(cls, backend: Backend, threads: int) -> Limits | None:
        """``None`` for an engine whose limits are not known: any but the native one."""
        from empu.engine.backends.native import NativeBackend

        if not isinstance(backend, NativeBackend):
            return None
        from empu.engine import _native

        read = backend.weight_bytes
        bandwidth = max(_native.read_bandwidth(read, count, 3) for count in {1, threads})
        products = max(_native.product_rate(backend.instructions, count, 5) for count in {1, threads})
        return cls(bandwidth, 2 * products, read, backend.cache_bytes_per_token)

    def tokens_per_s(self, case: Case, config: ModelConfig) -> float:
        """The most that memory and multipliers allow: weights and cache are read once a step, and every matrix of the
        layers multiplies every token, the output layer the last one of each sequence.
        """
        in_layers = config.n_layers * (
            config.dim * (2 * config.q_dim + 2 * config.kv_dim) + 3 * config.dim * config.ffn_dim
        )
        before = sum(case.lengths)
        tokens = case.streams if case.write else before
        operations = 2 * (tokens * in_layers + case.streams * config.vocab_size * config.dim)
        cached = case.write * before * self.cache_bytes_per_token
        seconds = max((self.weight_bytes + cached) / self.bytes_per_s, operations / self.int8_operations_per_s)
        return tokens / seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one case. ``share`` of the machine's limit, where that is known, measured in the same round."""

    case: Case
    tokens_per_s: float
    share: float | None
    runs: tuple[float, ...]


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
            cpu=cpu_name(),
            logical_cpus=processors(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            system=platform.platform(),
            python=platform.python_version(),
            numpy=np.__version__,
            empu=__version__,
        )


def measure(
    backend: Backend,
    *,
    threads: int,
    cases: Sequence[Case] = CASES,
    runs: int = 3,
    tell: Callable[[str], None] = lambda sentence: None,
) -> tuple[list[Figure], Limits | None]:
    """Every case ``runs`` times, in turn, and the machine's limits before each; medians. Cases that do not fit the
    model's context are left out, which is told; raises :class:`~empu.errors.UsageError` where none fits.
    """
    shortest = min(case.longest for case in cases)
    if shortest > backend.context:
        raise UsageError(
            f"The context has {backend.context:,} tokens and the shortest measurement takes {shortest:,}; use a larger "
            "--context."
        )
    for case in cases:
        if case.longest > backend.context:
            tell(f"left out, as the context has {backend.context:,} tokens: {case}")
    cases = [case for case in cases if case.longest <= backend.context]
    rates: dict[Case, list[float]] = {case: [] for case in cases}
    shares: dict[Case, list[float]] = {case: [] for case in cases}
    seen: list[Limits] = []
    rate(backend, Case(True, 16))
    for run in range(runs):
        for case in cases:
            tell(f"round {run + 1} of {runs}: {case}")
            limits = Limits.of(backend, threads)
            rates[case].append(rate(backend, case))
            if limits is not None:
                seen.append(limits)
                shares[case].append(rates[case][-1] / limits.tokens_per_s(case, backend.config))
    figures = [
        Figure(case, statistics.median(got), statistics.median(shares[case]) if shares[case] else None, tuple(got))
        for case, got in rates.items()
    ]
    return figures, _middle(seen) if seen else None


def _middle(seen: Sequence[Limits]) -> Limits:
    return Limits(
        statistics.median(limits.bytes_per_s for limits in seen),
        statistics.median(limits.int8_operations_per_s for limits in seen),
        seen[0].weight_bytes,
        seen[0].cache_bytes_per_token,
    )


def rate(backend: Backend, case: Case) -> float:
    """Tokens per second of all sequences together."""
    prompts = [(np.arange(length) * 7 + 11 * i) % backend.config.vocab_size for i, length in enumerate(case.lengths)]
    sequences: list[SequenceId] = []
    try:
        sequences.extend(backend.allocate(length + WRITTEN) for length in case.lengths)
        begun = time.perf_counter()
        chosen = _step(backend, sequences, prompts)
        read = time.perf_counter()
        if not case.write:
            return sum(case.lengths) / (read - begun)
        for written in range(1, WRITTEN + 1):
            chosen = _step(backend, sequences, chosen)
            seconds = time.perf_counter() - read
            if written >= FEWEST and seconds > LONGEST_S:
                break
        return case.streams * written / seconds
    finally:
        for sequence in sequences:
            backend.release(sequence)


def _step(backend: Backend, sequences: Sequence[SequenceId], tokens: Sequence[Tokens]) -> list[Tokens]:
    """The likeliest next token of each sequence, after ``tokens``."""
    chunks = [Chunk(s, some.astype(np.int32), Want.LAST) for s, some in zip(sequences, tokens, strict=True)]
    return [logits[-1:].argmax(axis=-1) for logits in backend.forward(chunks)]


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
