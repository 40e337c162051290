"""Packed weights: rounding against GGUF's own implementation, and its cost in the logits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import open_checkpoint
from empu.checkpoint.base import StoredTensor
from empu.checkpoint.block_types import BLOCK_TYPES_BY_NAME
from empu.engine import _native
from empu.engine.backends.native import open_native
from empu.engine.backends.native_weights import build_native_model, matrix_specs
from empu.engine.backends.options import BackendOptions
from empu.engine.backends.registry import open_backend
from empu.errors import EmpuError
from tests.cli.conftest import Run, empu, home  # noqa: F401 - fixtures
from tests.engine.backends.default_model import LIGHTHOUSE_TEXT
from tests.engine.backends.memory_checkpoint import (
    GROUPED,
    TINY,
    FloatArray,
    MemoryCheckpoint,
    all_logits,
    as_float32,
    random_checkpoint,
    random_prompts,
)
from tests.engine.backends.numpy_reference import kl_divergence

EMBEDDING = "embedding.weight"
QUERY = "layers.0.attention.q.weight"


def unpack_tiles(packed: npt.NDArray[np.uint8], format: str, shape: tuple[int, int]) -> FloatArray:
    """Return the values of a packed matrix, by the layout that ``native/src`` describes."""
    groups = shape[1] // 32
    tile = packed.reshape((shape[0] + 15) // 16, -1)
    size = 512 if format == "q8" else 256
    columns = []
    for group in range(groups):
        if format == "q4":
            data_start, scales_start = 320 * group, 320 * group + 256
        else:
            pair, is_second = group // 2 * (2 * size + 64), group % 2
            is_unpaired = group == groups - 1 and not is_second
            data_start, scales_start = (
                pair + is_second * size,
                pair + (size if is_unpaired else 2 * size + 32 * is_second),
            )
        blocks = (
            tile[:, data_start : data_start + size]
            .reshape(-1, size // 64, 16, 4)
            .transpose(0, 2, 1, 3)
            .reshape(-1, 16, size // 16)
        )
        scales, minima = (
            tile[:, start : start + 32].copy().view("<f2").astype(np.float32)[..., None]
            for start in (scales_start, scales_start + 32 * (format == "q4"))
        )
        quantised = blocks if format == "q8" else np.concatenate([blocks & 15, blocks >> 4], axis=-1)
        offset = {"q4": 0, "q4-symmetric": 8, "q8": 128}[format]
        values = (quantised.astype(np.float32) - offset) * scales
        columns.append(values + minima if format == "q4" else values)
    return np.concatenate(columns, axis=-1).reshape(-1, shape[1])[: shape[0]]


def hard_values(shape: tuple[int, int]) -> FloatArray:
    """Groups of many magnitudes; some constant, some of one sign, some of zeros."""
    rng = np.random.default_rng(5)
    values = rng.standard_normal(shape).astype(np.float32) * np.float32(10) ** rng.integers(-1, 3, (shape[0], 1))
    values[0], values[1], values[2] = 0, 0.25, np.abs(values[2])
    values[3, :32] = [1, *[0] * 31]
    values[4, :32] = np.arange(32)
    return values.astype(np.float32)


def with_query(values: FloatArray, type_name: str) -> MemoryCheckpoint:
    block_type = BLOCK_TYPES_BY_NAME[type_name]
    assert block_type.pack is not None
    checkpoint = random_checkpoint(GROUPED, "F32")
    shape = checkpoint.shape(QUERY)
    checkpoint.stored[QUERY] = StoredTensor(QUERY, shape, block_type, block_type.pack(values.reshape(-1)))
    return checkpoint


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16", "Q8_0"])
def test_4_bit_rounding_equals_ggufs_own_writer(stored: str) -> None:
    shape = (GROUPED.q_dim, GROUPED.dim)
    checkpoint = with_query(hard_values(shape), stored)
    values = checkpoint.tensor(QUERY).float32()
    expected = gguf.dequantize(
        gguf.quantize(values, gguf.GGMLQuantizationType.Q4_1), gguf.GGMLQuantizationType.Q4_1
    ).reshape(shape)
    packed = build_native_model(checkpoint, BackendOptions(quant="q4")).packed_bytes(QUERY)
    np.testing.assert_allclose(unpack_tiles(packed, "q4", shape), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("stored", "format"), [("Q4_0", "q4-symmetric"), ("Q4_1", "q4"), ("Q8_0", "q8")])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_stored_blocks_are_kept_exactly(stored: str, format: str, groups: int) -> None:
    config = dataclasses.replace(GROUPED, dim=32 * groups)
    checkpoint = random_checkpoint(config, stored)
    for name in (QUERY, EMBEDDING):
        expected = checkpoint.tensor(name).float32()
        rows, cols = checkpoint.shape(name)
        unpacked = unpack_tiles(build_native_model(checkpoint).packed_bytes(name), format, (rows, cols))
        np.testing.assert_array_equal(unpacked, expected)


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_8_bit_rounding_equals_ggufs_own_writer(stored: str) -> None:
    """Except for values so near the middle of two steps that the rounding of the 16-bit scale (2^-11) decides."""
    shape = (GROUPED.q_dim, GROUPED.dim)
    checkpoint = with_query(hard_values(shape), stored)
    values = checkpoint.tensor(QUERY).float32()
    expected = gguf.dequantize(
        gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    ).reshape(shape)
    rounded = unpack_tiles(build_native_model(checkpoint, BackendOptions(quant="q8")).packed_bytes(QUERY), "q8", shape)
    step = np.abs(values).reshape(shape[0], -1, 32).max(axis=-1).repeat(32, axis=1) / 127
    assert (np.abs(rounded - expected) <= 1.001 * step).all()
    assert (np.abs(rounded - expected) <= 1e-6 * step + 1e-30).mean() > 0.95
    assert (np.abs(rounded - values) <= (0.5 + 127 * 2.0**-11) * step + 1e-7).all()


def test_weights_with_fewer_bits_are_not_rounded_again() -> None:
    for stored in ("Q4_0", "Q4_1", "Q4_K"):
        checkpoint = random_checkpoint(GROUPED, stored)
        for quant in ("q8", "q4"):
            assert matrix_specs(checkpoint, quant) == matrix_specs(checkpoint)
            rounded, plain = build_native_model(checkpoint, BackendOptions(quant=quant)), build_native_model(checkpoint)
            np.testing.assert_array_equal(rounded.packed_bytes(QUERY), plain.packed_bytes(QUERY))
    q8 = random_checkpoint(GROUPED, "Q8_0")
    assert matrix_specs(q8, "q8") == matrix_specs(q8)


def test_with_4_bits_the_embedding_keeps_8() -> None:
    formats = {spec.name: spec.format for spec in matrix_specs(random_checkpoint(TINY, "F16"), "q4")}
    assert {name for name, format in formats.items() if format == "q8"} == {EMBEDDING, "output.weight"}
    assert set(formats.values()) == {"q8", "q4"}


def test_columns_that_are_not_whole_groups_stay_float32() -> None:
    checkpoint = random_checkpoint(TINY.replace(ffn_dim=50))
    formats = {spec.name: spec.format for spec in matrix_specs(checkpoint, "q4")}
    assert {name for name, format in formats.items() if format == "float32"} == {
        f"layers.{i}.feed_forward.down.weight" for i in range(TINY.n_layers)
    }
    (tokens,) = random_prompts([30], TINY.vocab_size)
    expected = all_logits(open_native(checkpoint, threads=1), tokens)
    logits = all_logits(open_native(checkpoint, threads=1, options=BackendOptions(quant="q8")), tokens)
    assert kl_divergence(expected, logits) < 1e-3


def test_the_default_model_in_fewer_bits(default_gguf: Path) -> None:
    """Its weights are unpacked to float32, then rounded again. What remains is the rounding of activations (about
    0.004), since 8 bits cost almost nothing, and 4 bits find the original steps.
    """
    with open_checkpoint(default_gguf) as checkpoint:
        floats = as_float32(checkpoint)
    tokens = np.array(LIGHTHOUSE_TEXT, dtype=np.int32)
    expected = all_logits(open_native(floats), tokens)
    divergences = {}
    for quant in ("q8", "q4"):
        divergences[quant] = kl_divergence(
            expected, all_logits(open_native(floats, options=BackendOptions(quant=quant)), tokens)
        )
    assert divergences["q8"] < 0.01, divergences
    assert divergences["q4"] < 0.01, divergences


def test_unknown_quantisations_are_refused(empu: Run, default_gguf: Path) -> None:  # noqa: F811
    with pytest.raises(EmpuError, match="stored as 'q3'; choose from q8, q4"):
        BackendOptions(quant="q3")
    with open_checkpoint(default_gguf) as checkpoint, pytest.raises(EmpuError, match="remove --quant"):
        open_backend(checkpoint, engine="torch", options=BackendOptions(quant="q8"))
    outcome = empu("run", str(default_gguf), "hi", "--quant", "q3")
    assert outcome.code == 2
    assert "'q3' is not one of 'q8', 'q4'" in outcome.err
    with pytest.raises(_native.Error, match="Unknown weight format"):
        _native.matrix_bytes("q3", 32, 32)
