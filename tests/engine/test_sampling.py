"""Properties of the sampling functions, each a pure function of one row of logits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from empu.engine import _native, sampling
from empu.engine.backends.native import available_instruction_sets
from empu.engine.sampling import Sampler, SamplingParams
from empu.errors import CheckpointError, UsageError

rows = arrays(np.float32, st.integers(1, 60), elements=st.floats(-30, 30, width=32), unique=False)


def remaining_tokens(logits: sampling.Logits) -> set[int]:
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def probabilities(logits: sampling.Logits) -> np.ndarray:
    return np.exp(sampling.log_probabilities(logits))


@given(rows, st.integers(1, 70))
def test_top_k_keeps_the_k_highest_and_their_ties(logits: sampling.Logits, k: int) -> None:
    result = sampling.apply_top_k(logits, k)
    expected = {i for i, x in enumerate(logits) if (logits > x).sum() < k}
    assert remaining_tokens(result) == expected
    assert all(result[i] == logits[i] for i in expected)


@given(rows, st.floats(0.01, 1.0))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: sampling.Logits, p: float) -> None:
    remaining = remaining_tokens(sampling.apply_top_p(logits, p))
    probs = probabilities(logits)
    assert remaining
    inside = probs[sorted(remaining)]
    assert inside.sum() >= p - 1e-5
    outside = [probs[i] for i in range(len(logits)) if i not in remaining]
    assert not outside or max(outside) <= inside.min() + 1e-7
    if len(remaining) > 1:
        assert inside.sum() - inside.min() < p + 1e-5


@given(rows, st.floats(0.0, 1.0))
def test_min_p_keeps_tokens_that_are_likely_enough(logits: sampling.Logits, p: float) -> None:
    remaining = remaining_tokens(sampling.apply_min_p(logits, p))
    ratios = np.exp(logits.astype(np.float64) - logits.max())
    assert int(logits.argmax()) in remaining
    for i, ratio in enumerate(ratios):
        if abs(ratio - p) > 1e-5 * max(p, 1e-9):
            assert (i in remaining) == (ratio > p), (ratio, p)


@given(rows, st.floats(0.05, 20.0))
def test_temperature_scales_differences_and_keeps_the_order(logits: sampling.Logits, temperature: float) -> None:
    result = sampling.apply_temperature(logits, temperature)
    assert result.max() == 0
    expected = (logits.astype(np.float64) - logits.max()) / temperature
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@given(rows, st.floats(1.01, 3.0), st.data())
def test_repetition_penalty_lowers_seen_tokens_only(
    logits: sampling.Logits, penalty: float, data: st.DataObject
) -> None:
    seen = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=8))
    result = sampling.apply_repetition_penalty(logits, seen, penalty)
    for i, (old, new) in enumerate(zip(logits, result, strict=True)):
        assert new == old if i not in seen else new <= old
    assert (sampling.apply_repetition_penalty(logits, seen, 1.0) == logits).all()


def test_repetition_penalty_equals_transformers() -> None:
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    seen = [3, 3, 7, 49, 0]
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([seen]), torch.from_numpy(logits)[None])[0].numpy()
    np.testing.assert_allclose(sampling.apply_repetition_penalty(logits, seen, 1.3), expected, rtol=1e-6)


@given(rows, st.dictionaries(st.integers(0, 0), st.integers(1, 5)), st.floats(-2, 2), st.floats(-2, 2))
def test_presence_and_frequency_penalties_are_subtracted(
    logits: sampling.Logits, counts: dict[int, int], presence: float, frequency: float
) -> None:
    result = sampling.apply_presence_penalty(logits, counts, presence, frequency)
    expected = logits.copy()
    for token, count in counts.items():
        expected[token] = logits[token] - np.float32(presence + frequency * count)
    assert (result == expected).all()


@given(rows)
def test_log_probabilities_are_a_distribution(logits: sampling.Logits) -> None:
    values = sampling.log_probabilities(logits)
    assert math.isclose(np.exp(values).sum(), 1.0, rel_tol=1e-9)
    assert (np.diff(values[np.argsort(logits)]) >= 0).all()


@given(rows, st.floats(0, 1, exclude_max=True))
def test_sampling_inverts_the_cumulative_distribution(logits: sampling.Logits, uniform: float) -> None:
    token = sampling.sample_token(sampling.apply_temperature(logits, 1.0), uniform)
    cumulative = np.cumsum(np.exp(logits.astype(np.float64) - logits.max()))
    cumulative /= cumulative[-1]
    assert cumulative[token] >= uniform - 1e-6
    assert token == 0 or cumulative[token - 1] <= uniform + 1e-6


@given(rows, st.floats(0.05, 20.0), st.integers(1, 60), st.floats(0.01, 1.0))
@example(np.array([0.0, 2.0**-23], dtype=np.float32), 3.0, 1, 0.5)
def test_the_highest_logit_is_zero_after_every_filter(
    logits: sampling.Logits, temperature: float, k: int, p: float
) -> None:
    scaled = sampling.apply_temperature(logits, temperature)
    for result in (
        scaled,
        sampling.apply_top_k(scaled, k),
        sampling.apply_top_p(scaled, p),
        sampling.apply_min_p(scaled, p),
    ):
        assert result.max() == 0
        assert np.exp(result).tobytes() == np.exp(result - result.max()).tobytes()


@given(rows, st.lists(st.integers(0, 59), max_size=40), st.integers(0, 2**31))
def test_seen_tokens_are_those_of_the_whole_text(logits: sampling.Logits, prompt: list[int], seed: int) -> None:
    row = np.resize(logits, 60)
    sampler, text = Sampler(SamplingParams(temperature=0.0, repetition_penalty=1.7, seed=seed), prompt), list(prompt)
    for _ in range(70):
        expected = int(sampling.apply_repetition_penalty(row, np.unique(np.array(text, dtype=np.int64)), 1.7).argmax())
        assert sampler.sample(row) == expected
        text.append(expected)
        sampler.record(len(text) % 60)
        text.append(len(text) % 60)


filters = st.builds(
    SamplingParams,
    temperature=st.floats(0.05, 5.0),
    top_k=st.none() | st.integers(1, 70),
    top_p=st.none() | st.floats(0.01, 1.0),
    min_p=st.none() | st.floats(0.0, 1.0),
)


@given(rows, filters, st.floats(0, 1, exclude_max=True), st.integers(1, 40))
@example(
    np.array([-1e-38, 1, 0, 0], dtype=np.float32), SamplingParams(top_p=0.5), 0.0, 1
)  # ties appear only after scaling
def test_the_compiled_sampler_equals_the_numpy_functions(
    logits: sampling.Logits, params: SamplingParams, uniform: float, repeats: int
) -> None:
    row = np.tile(logits, repeats)  # with ties, and more than one block
    exact = np.exp(sampling.process_logits(row, params).astype(np.float64))
    cumulative = np.cumsum(exact) / exact.sum()
    token = sample_native(row, params, uniform)
    expected = sampling.sample_token(sampling.process_logits(row, params), uniform)
    if token == expected:
        return
    # Where a filter's threshold lies within rounding of a token, the two may keep different tokens.
    is_near = abs(cumulative[min(token, expected)] - uniform) < 1e-5
    assert is_near or is_ambiguous(row, params), (token, expected)


def sample_native(row: sampling.Logits, params: SamplingParams, uniform: float, instruction_set: str = "") -> int:
    return _native.sample(
        row, params.temperature, params.top_k or 0, params.top_p or 1.0, params.min_p or 0.0, uniform, instruction_set
    )


def is_ambiguous(row: sampling.Logits, params: SamplingParams) -> bool:
    """Whether top-p or min-p keep other tokens when the thresholds move within rounding."""
    sets = {
        tuple(np.flatnonzero(np.isfinite(sampling.process_logits(row, shifted))))
        for factor in (1 - 1e-5, 1.0, 1 + 1e-5)
        for shifted in [
            replace(
                params,
                top_p=params.top_p and min(params.top_p * factor, 1.0),
                min_p=params.min_p and min(params.min_p * factor, 1.0),
            )
        ]
    }
    return len(sets) > 1


@given(rows, filters, st.floats(0, 1, exclude_max=True))
def test_every_instruction_set_samples_the_same_token(
    logits: sampling.Logits, params: SamplingParams, uniform: float
) -> None:
    row = np.tile(logits, 20)
    assert len({sample_native(row, params, uniform, name) for name in available_instruction_sets()}) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_compiled_sampler_refuses_logits_that_are_not_finite(value: float) -> None:
    with pytest.raises(_native.Error, match="not finite"):
        sample_native(np.full(40, value, dtype=np.float32), SamplingParams(), 0.5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error(value: float, temperature: float) -> None:
    logits = np.zeros(40, dtype=np.float32)
    logits[7] = value
    with pytest.raises(CheckpointError, match="not finite"):
        Sampler(SamplingParams(temperature=temperature)).sample(logits)


def test_without_the_extension_numpy_samples_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    params = SamplingParams(temperature=0.9, top_p=0.8, seed=5)
    compiled = [Sampler(replace(params, seed=seed)).sample(logits) for seed in range(200)]
    monkeypatch.setattr(sampling, "_IS_COMPILED", False)
    assert [Sampler(replace(params, seed=seed)).sample(logits) for seed in range(200)] == compiled


def test_samples_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.125], dtype=np.float32))
    sampler = Sampler(SamplingParams(seed=1))
    counts = Counter(sampler.sample(logits) for _ in range(8000))
    for token, p in enumerate((0.5, 0.25, 0.125, 0.125)):
        assert abs(counts[token] / 8000 - p) < 4 * math.sqrt(p * (1 - p) / 8000)


@given(rows, st.integers(0, 2**63 - 1), st.floats(0.0, 3.0))
def test_the_same_seed_gives_the_same_tokens(logits: sampling.Logits, seed: int, temperature: float) -> None:
    params = SamplingParams(seed=seed, temperature=temperature, top_p=0.95, repetition_penalty=1.1)
    first, second = Sampler(params, [0]), Sampler(params, [0])
    assert [first.sample(logits) for _ in range(5)] == [second.sample(logits) for _ in range(5)]


def test_a_random_seed_is_chosen_and_reported() -> None:
    first, second = Sampler(SamplingParams()), Sampler(SamplingParams())
    assert first.seed != second.seed
    logits = np.zeros(1000, dtype=np.float32)
    repeated = Sampler(SamplingParams(seed=first.seed))
    assert [first.sample(logits) for _ in range(5)] == [repeated.sample(logits) for _ in range(5)]


@given(rows, st.data())
def test_only_allowed_tokens_are_sampled(logits: sampling.Logits, data: st.DataObject) -> None:
    allowed = data.draw(arrays(np.bool_, len(logits)).filter(lambda mask: bool(mask.any())))
    for temperature in (0.0, 1.0):
        assert allowed[Sampler(SamplingParams(temperature=temperature, top_p=0.9, seed=1)).sample(logits, allowed)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", True),
        ("temperature", None),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", 0),
        ("top_k", 1.5),
        ("min_p", -1),
        ("repetition_penalty", 0.0),
        ("presence_penalty", math.inf),
        ("max_tokens", 0),
        ("seed", -1),
        ("logprobs", -1),
        ("stop", ("",)),
        ("stop", "text"),
    ],
)
def test_values_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_logit_bias_adds_to_logits_and_keeps_removed_tokens() -> None:
    logits = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    params = SamplingParams(temperature=0, logit_bias=((0, 5.0), (2, -5.0)))
    assert Sampler(params).sample(logits) == 0
    assert Sampler(params).sample(logits, np.array([False, True, True])) == 1
    assert logits.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(UsageError, match="logit_bias"):
        SamplingParams(logit_bias=((-1, 1.0),))
    with pytest.raises(UsageError, match="logit_bias"):
        SamplingParams(logit_bias=((1, float("nan")),))
