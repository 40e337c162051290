"""What is measured is what ran, and the machine's limits are rates."""

from __future__ import annotations

import pytest

from empu.engine.backends.native import open_native
from empu.engine.backends.protocol import Backend
from empu.engine.backends.torch import TorchBackend
from empu.engine.benchmark import WRITTEN, Case, Limits, measure
from empu.errors import UsageError
from tests.engine.native_reference import random_checkpoint
from tests.engine.test_adapters import SHAPE
from tests.tune.making import tiny_model

CASES = (Case(False, 40), Case(True, 20), Case(True, 8, 3))


def test_each_case_is_measured_as_often_as_asked() -> None:
    backend = open_native(random_checkpoint(SHAPE, "Q4_1"), threads=1, context=90)
    told: list[str] = []
    figures, limits = measure(backend, threads=1, cases=(*CASES, Case(False, 80)), runs=2, tell=told.append)
    assert [figure.case for figure in figures] == list(CASES), "80 tokens and those after them do not fit"
    assert all(len(figure.runs) == 2 and min(figure.runs) > 0 for figure in figures)
    assert all(figure.share is not None and figure.share > 0 for figure in figures)
    assert limits is not None
    assert limits.weight_bytes == backend.weight_bytes
    assert told[0] == "left out, as the context has 90 tokens: reading 80"
    assert told[-1] == "round 2 of 2: writing after 8, 3 together"


def test_a_context_for_no_case_is_refused() -> None:
    backend = open_native(random_checkpoint(SHAPE, "Q4_1"), threads=1, context=30)
    with pytest.raises(UsageError, match="takes 60"):
        measure(backend, threads=1, cases=CASES, runs=1)


def test_only_the_native_engine_has_known_limits() -> None:
    backend: Backend = TorchBackend(tiny_model(context=20 + WRITTEN))
    figures, limits = measure(backend, threads=1, cases=[Case(True, 20)], runs=1)
    assert limits is None
    assert figures[0].share is None


def test_the_slower_of_memory_and_multipliers_is_the_limit() -> None:
    """SHAPE: 2 layers of 128 * (2 * 128 + 2 * 64) + 3 * 128 * 256 weights, an output layer of 200 * 128."""
    in_layers, output = 2 * (128 * 384 + 3 * 128 * 256), 200 * 128
    slow_memory = Limits(bytes_per_s=1000.0, int8_operations_per_s=1e12, weight_bytes=5000, cache_bytes_per_token=256)
    cached = 100 * 256
    assert slow_memory.tokens_per_s(Case(True, 100), SHAPE) == pytest.approx(1000 / (5000 + cached))
    assert Case(True, 100, 5).lengths == [50, 75, 100, 125, 150]
    assert slow_memory.tokens_per_s(Case(True, 100, 5), SHAPE) == pytest.approx(5 * 1000 / (5000 + 5 * cached))
    slow_products = Limits(bytes_per_s=1e12, int8_operations_per_s=1000.0, weight_bytes=5000, cache_bytes_per_token=256)
    assert slow_products.tokens_per_s(Case(False, 50), SHAPE) == pytest.approx(
        50 * 1000 / (2 * (50 * in_layers + output))
    )
