"""Benchmark: which cases are measured, and how the roofline is computed."""

from __future__ import annotations

import pytest

from empu.engine.backends.native import open_native
from empu.engine.backends.protocol import Backend
from empu.engine.backends.torch import TorchBackend
from empu.engine.benchmark import DECODE_TOKENS, Case, Roofline, run_benchmark
from empu.errors import UsageError
from tests.engine.backends.memory_checkpoint import SMALL, random_checkpoint
from tests.tune.samples import tiny_model

CASES = (Case(False, 40), Case(True, 20), Case(True, 8, 3))


def test_each_case_is_measured_once_per_round() -> None:
    backend = open_native(random_checkpoint(SMALL, "Q4_1"), threads=1, context_length=90)
    messages: list[str] = []
    measurements, roofline = run_benchmark(
        backend, threads=1, cases=(*CASES, Case(False, 80)), rounds=2, on_message=messages.append
    )
    assert [measurement.case for measurement in measurements] == list(CASES), "80 tokens and those after do not fit"
    assert all(len(measurement.rounds) == 2 and min(measurement.rounds) > 0 for measurement in measurements)
    assert all(measurement.roofline_fraction is not None for measurement in measurements)
    assert all((measurement.roofline_fraction or 0) > 0 for measurement in measurements)
    assert roofline is not None
    assert roofline.weight_bytes == backend.weight_bytes_per_step
    assert messages[0] == "skipped, since the context has 90 tokens: prefill 80"
    assert messages[-1] == "round 2 of 2: decode after 8, 3 sequences"


def test_json_keeps_its_property_names() -> None:
    backend = open_native(random_checkpoint(SMALL, "Q4_1"), threads=1, context_length=90)
    (measurement,), roofline = run_benchmark(backend, threads=1, cases=[Case(True, 8, 3)], rounds=1)
    document = measurement.to_json()
    assert list(document) == ["what", "case", "tokens_per_s", "share", "runs"]
    assert document["what"] == "decode after 8, 3 sequences"
    assert document["case"] == {"write": True, "context": 8, "streams": 3}
    assert roofline is not None
    assert list(roofline.to_json()) == [
        "bytes_per_s",
        "int8_operations_per_s",
        "weight_bytes",
        "cache_bytes_per_token",
    ]


def test_a_context_too_short_for_every_case_is_refused() -> None:
    backend = open_native(random_checkpoint(SMALL, "Q4_1"), threads=1, context_length=30)
    with pytest.raises(UsageError, match="takes 60"):
        run_benchmark(backend, threads=1, cases=CASES, rounds=1)


def test_only_the_native_engine_has_a_roofline() -> None:
    backend: Backend = TorchBackend(tiny_model(context=20 + DECODE_TOKENS))
    measurements, roofline = run_benchmark(backend, threads=1, cases=[Case(True, 20)], rounds=1)
    assert roofline is None
    assert measurements[0].roofline_fraction is None


def test_the_roofline_is_the_slower_of_memory_and_arithmetic() -> None:
    """SMALL: 2 layers of 128 * (2 * 128 + 2 * 64) + 3 * 128 * 256 weights, an output layer of 200 * 128."""
    layer_weights, output_weights = 2 * (128 * 384 + 3 * 128 * 256), 200 * 128
    memory_bound = Roofline(
        bytes_per_s=1000.0, int8_operations_per_s=1e12, weight_bytes=5000, cache_bytes_per_token=256
    )
    cache_bytes = 100 * 256
    assert memory_bound.tokens_per_s(Case(True, 100), SMALL) == pytest.approx(1000 / (5000 + cache_bytes))
    assert Case(True, 100, 5).lengths == [50, 75, 100, 125, 150]
    assert memory_bound.tokens_per_s(Case(True, 100, 5), SMALL) == pytest.approx(5 * 1000 / (5000 + 5 * cache_bytes))
    compute_bound = Roofline(
        bytes_per_s=1e12, int8_operations_per_s=1000.0, weight_bytes=5000, cache_bytes_per_token=256
    )
    assert compute_bound.tokens_per_s(Case(False, 50), SMALL) == pytest.approx(
        50 * 1000 / (2 * (50 * layer_weights + output_weights))
    )
