"""Speed of a model on this machine, beside the roofline: what memory bandwidth and arithmetic allow.

Measured at the backend, where tokens go in and logits come out: no text, no sampling, no early end.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from empu import __version__
from empu.config import ModelConfig
from empu.engine.backends.protocol import Backend, Chunk, LogitsNeeded, SequenceId
from empu.errors import UsageError
from empu.system.cpu import available_cpus, cpu_name

TokenArray = npt.NDArray[np.integer]

DECODE_TOKENS = 48
"""Tokens that a decode measurement generates, unless ``MAX_DECODE_S`` comes first."""
MAX_DECODE_S = 2.0
"""Limit on the seconds of one decode measurement; at least ``MIN_DECODE_TOKENS`` are generated in any case."""
MIN_DECODE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: prefill of ``context`` tokens, or decode after them, with several sequences at once.

    With several sequences ``context`` is the mean: their lengths range from half of it to three halves.
    """

    is_decode: bool
    context: int
    num_sequences: int = 1

    @property
    def lengths(self) -> list[int]:
        """Prompt length of each sequence."""
        if self.num_sequences == 1:
            return [self.context]
        half = self.context // 2
        return [half + 2 * half * i // (self.num_sequences - 1) for i in range(self.num_sequences)]

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence at the end."""
        return max(self.lengths) + DECODE_TOKENS

    def __str__(self) -> str:
        name = f"decode after {self.context:,}" if self.is_decode else f"prefill {self.context:,}"
        return name + (f", {self.num_sequences} sequences" if self.num_sequences > 1 else "")

    def to_json(self) -> dict[str, Any]:
        """Return the properties of result files."""
        return {"write": self.is_decode, "context": self.context, "streams": self.num_sequences}


CASES = (Case(False, 128), Case(False, 512), Case(True, 128), Case(True, 1024), Case(True, 128, 8))


@dataclass(frozen=True, slots=True)
class Roofline:
    """What the machine can do at most, measured with the engine's threads."""

    bytes_per_s: float
    """Memory bandwidth: sequential reads of as many bytes as the model has weights."""
    int8_operations_per_s: float
    """Multiplications and additions of 8-bit integers in registers."""
    weight_bytes: int
    """Weights that each step reads."""
    cache_bytes_per_token: int
    """KV cache that each step reads for each earlier token."""

    @classmethod
    def measure(cls, backend: Backend, threads: int) -> Roofline | None:
        """Return ``None`` for a backend other than the native one, whose roofline is unknown."""
        from empu.engine.backends.native import NativeBackend

        if not isinstance(backend, NativeBackend):
            return None
        from empu.engine import _native

        weight_bytes = backend.weight_bytes_per_step
        bandwidth = max(_native.memory_bandwidth(weight_bytes, count, 3) for count in {1, threads})
        products = max(_native.int8_throughput(backend.instruction_set, count, 5) for count in {1, threads})
        return cls(bandwidth, 2 * products, weight_bytes, backend.cache_bytes_per_token)

    @classmethod
    def median(cls, rooflines: Sequence[Roofline]) -> Roofline:
        """Return the medians of several measurements on one backend."""
        return cls(
            statistics.median(roofline.bytes_per_s for roofline in rooflines),
            statistics.median(roofline.int8_operations_per_s for roofline in rooflines),
            rooflines[0].weight_bytes,
            rooflines[0].cache_bytes_per_token,
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def tokens_per_s(self, case: Case, config: ModelConfig) -> float:
        """Return the highest rate that memory bandwidth and arithmetic allow.

        A step reads weights and cache once. It multiplies every token by every matrix of the layers, and the last token
        of each sequence by the output layer.
        """
        layer_weights = config.n_layers * (
            config.dim * (2 * config.q_dim + 2 * config.kv_dim) + 3 * config.dim * config.ffn_dim
        )
        prompt_tokens = sum(case.lengths)
        tokens = case.num_sequences if case.is_decode else prompt_tokens
        operations = 2 * (tokens * layer_weights + case.num_sequences * config.vocab_size * config.dim)
        cache_bytes = case.is_decode * prompt_tokens * self.cache_bytes_per_token
        seconds = max((self.weight_bytes + cache_bytes) / self.bytes_per_s, operations / self.int8_operations_per_s)
        return tokens / seconds


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result of one case: medians over the rounds."""

    case: Case
    tokens_per_s: float
    roofline_fraction: float | None
    """Rate over roofline, each pair measured in the same round; ``None`` where the roofline is unknown."""
    rounds: tuple[float, ...]
    """Tokens per second of each round."""

    def to_json(self) -> dict[str, Any]:
        """Return the properties of ``empu bench --json``."""
        return {
            "what": str(self.case),
            "case": self.case.to_json(),
            "tokens_per_s": self.tokens_per_s,
            "share": self.roofline_fraction,
            "runs": list(self.rounds),
        }


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """The machine and the versions of a measurement."""

    cpu: str
    logical_cpus: int
    memory_bytes: int
    system: str
    python: str
    numpy: str
    empu: str

    @classmethod
    def detect(cls) -> MachineInfo:
        return cls(
            cpu=cpu_name(),
            logical_cpus=available_cpus(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            system=platform.platform(),
            python=platform.python_version(),
            numpy=np.__version__,
            empu=__version__,
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def run_benchmark(
    backend: Backend,
    *,
    threads: int,
    cases: Sequence[Case] = CASES,
    rounds: int = 3,
    on_message: Callable[[str], None] = lambda message: None,
) -> tuple[list[Measurement], Roofline | None]:
    """Measure the cases in turn, ``rounds`` times, each right after the roofline. Return medians.

    Cases that do not fit the context are skipped with a message. Raises :class:`~empu.errors.UsageError` where none
    fits.
    """
    shortest = min(case.max_length for case in cases)
    if shortest > backend.context_length:
        raise UsageError(
            f"The context has {backend.context_length:,} tokens and the shortest measurement takes {shortest:,}; use a "
            "larger --context."
        )
    for case in cases:
        if case.max_length > backend.context_length:
            on_message(f"skipped, since the context has {backend.context_length:,} tokens: {case}")
    cases = [case for case in cases if case.max_length <= backend.context_length]
    rates: dict[Case, list[float]] = {case: [] for case in cases}
    fractions: dict[Case, list[float]] = {case: [] for case in cases}
    rooflines: list[Roofline] = []
    measure_rate(backend, Case(True, 16))  # warm-up
    for i in range(rounds):
        for case in cases:
            on_message(f"round {i + 1} of {rounds}: {case}")
            roofline = Roofline.measure(backend, threads)
            rates[case].append(measure_rate(backend, case))
            if roofline is not None:
                rooflines.append(roofline)
                fractions[case].append(rates[case][-1] / roofline.tokens_per_s(case, backend.config))
    measurements = [
        Measurement(
            case,
            statistics.median(case_rates),
            statistics.median(fractions[case]) if fractions[case] else None,
            tuple(case_rates),
        )
        for case, case_rates in rates.items()
    ]
    return measurements, Roofline.median(rooflines) if rooflines else None


def measure_rate(backend: Backend, case: Case) -> float:
    """Return the tokens per second of all sequences together."""
    prompts = [(np.arange(length) * 7 + 11 * i) % backend.config.vocab_size for i, length in enumerate(case.lengths)]
    sequences: list[SequenceId] = []
    try:
        sequences.extend(backend.allocate(length + DECODE_TOKENS) for length in case.lengths)
        started_at = time.perf_counter()
        tokens = _greedy_step(backend, sequences, prompts)
        prefilled_at = time.perf_counter()
        if not case.is_decode:
            return sum(case.lengths) / (prefilled_at - started_at)
        for num_tokens in range(1, DECODE_TOKENS + 1):
            tokens = _greedy_step(backend, sequences, tokens)
            seconds = time.perf_counter() - prefilled_at
            if num_tokens >= MIN_DECODE_TOKENS and seconds > MAX_DECODE_S:
                break
        return case.num_sequences * num_tokens / seconds
    finally:
        for sequence in sequences:
            backend.release(sequence)


def _greedy_step(backend: Backend, sequences: Sequence[SequenceId], tokens: Sequence[TokenArray]) -> list[TokenArray]:
    """Append ``tokens`` to the sequences and return the most likely next token of each."""
    chunks = [Chunk(s, ids.astype(np.int32), LogitsNeeded.LAST) for s, ids in zip(sequences, tokens, strict=True)]
    return [logits[-1:].argmax(axis=-1) for logits in backend.forward(chunks)]


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
