"""Weights rounded at loading: against the format's own implementation, and what it costs in the logits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import open_checkpoint
from empu.checkpoint.base import StoredTensor
from empu.checkpoint.blocks import BY_NAME
from empu.engine import _native
from empu.engine.backends.native import open_native
from empu.engine.backends.native_weights import build_model, matrix_plan
from empu.engine.backends.registry import open_backend
from empu.engine.backends.storage import Storage
from empu.errors import EmpuError
from tests.cli.conftest import Run, empu, home  # noqa: F401 - fixtures
from tests.engine.native_reference import MemoryCheckpoint, divergence, in_floats, random_checkpoint, token_rows
from tests.engine.test_native_backend import GROUPED, TEXT, TINY, all_logits

Floats = npt.NDArray[np.float32]
EMBEDDING = "embedding.weight"
QUERY = "layers.0.attention.q.weight"


def tiles(packed: npt.NDArray[np.uint8], kind: str, shape: tuple[int, int]) -> Floats:
    """The values of a packed matrix, read as native/src/matrix.hpp describes it."""
    groups = shape[1] // 32
    tile = packed.reshape((shape[0] + 15) // 16, -1)
    size = 512 if kind == "q8" else 256
    columns = []
    for group in range(groups):
        if kind == "q4":
            at, scales_at = 320 * group, 320 * group + 256
        else:
            pair, second = group // 2 * (2 * size + 64), group % 2
            alone = group == groups - 1 and not second
            at, scales_at = pair + second * size, pair + (size if alone else 2 * size + 32 * second)
        lines = tile[:, at : at + size].reshape(-1, size // 64, 16, 4).transpose(0, 2, 1, 3).reshape(-1, 16, size // 16)
        scales, minima = (
            tile[:, here : here + 32].copy().view("<f2").astype(np.float32)[..., None]
            for here in (scales_at, scales_at + 32 * (kind == "q4"))
        )
        numbers = lines if kind == "q8" else np.concatenate([lines & 15, lines >> 4], axis=-1)
        offset = {"q4": 0, "q4-symmetric": 8, "q8": 128}[kind]
        values = (numbers.astype(np.float32) - offset) * scales
        columns.append(values + minima if kind == "q4" else values)
    return np.concatenate(columns, axis=-1).reshape(-1, shape[1])[: shape[0]]


def hard_values(shape: tuple[int, int]) -> Floats:
    """Groups of all sizes, some flat, some of one sign, some of zeros."""
    rng = np.random.default_rng(5)
    values = rng.standard_normal(shape).astype(np.float32) * np.float32(10) ** rng.integers(-1, 3, (shape[0], 1))
    values[0], values[1], values[2] = 0, 0.25, np.abs(values[2])
    values[3, :32] = [1, *[0] * 31]
    values[4, :32] = np.arange(32)
    return values.astype(np.float32)


def with_query(values: Floats, type_name: str) -> MemoryCheckpoint:
    kind = BY_NAME[type_name]
    assert kind.pack is not None
    checkpoint = random_checkpoint(GROUPED, "F32")
    shape = checkpoint.shape(QUERY)
    checkpoint.stored[QUERY] = StoredTensor(QUERY, shape, kind, kind.pack(values.reshape(-1)))
    return checkpoint


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16", "Q8_0"])
def test_four_bits_are_those_of_the_formats_own_writer(stored: str) -> None:
    shape = (GROUPED.q_dim, GROUPED.dim)
    checkpoint = with_query(hard_values(shape), stored)
    values = checkpoint.tensor(QUERY).float32()
    expected = gguf.dequantize(
        gguf.quantize(values, gguf.GGMLQuantizationType.Q4_1), gguf.GGMLQuantizationType.Q4_1
    ).reshape(shape)
    packed = build_model(checkpoint, Storage(quant="q4")).packed(QUERY)
    np.testing.assert_allclose(tiles(packed, "q4", shape), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("stored", "kind"), [("Q4_0", "q4-symmetric"), ("Q4_1", "q4"), ("Q8_0", "q8")])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_stored_blocks_are_kept_exactly(stored: str, kind: str, groups: int) -> None:
    config = dataclasses.replace(GROUPED, dim=32 * groups)
    checkpoint = random_checkpoint(config, stored)
    for name in (QUERY, EMBEDDING):
        expected = checkpoint.tensor(name).float32()
        rows, cols = checkpoint.shape(name)
        found = tiles(build_model(checkpoint).packed(name), kind, (rows, cols))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_eight_bits_are_those_of_the_formats_own_writer(stored: str) -> None:
    """But for numbers that lie so near the middle of two steps that the 16-bit scale (2^-11) decides."""
    shape = (GROUPED.q_dim, GROUPED.dim)
    checkpoint = with_query(hard_values(shape), stored)
    values = checkpoint.tensor(QUERY).float32()
    expected = gguf.dequantize(
        gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    ).reshape(shape)
    got = tiles(build_model(checkpoint, Storage(quant="q8")).packed(QUERY), "q8", shape)
    step = np.abs(values).reshape(shape[0], -1, 32).max(axis=-1).repeat(32, axis=1) / 127
    assert (np.abs(got - expected) <= 1.001 * step).all()
    assert (np.abs(got - expected) <= 1e-6 * step + 1e-30).mean() > 0.95
    assert (np.abs(got - values) <= (0.5 + 127 * 2.0**-11) * step + 1e-7).all()


def test_what_has_fewer_bits_stays_as_it_is() -> None:
    for stored in ("Q4_0", "Q4_1", "Q4_K"):
        checkpoint = random_checkpoint(GROUPED, stored)
        for quant in ("q8", "q4"):
            assert matrix_plan(checkpoint, quant) == matrix_plan(checkpoint)
            asked, plain = build_model(checkpoint, Storage(quant=quant)), build_model(checkpoint)
            np.testing.assert_array_equal(asked.packed(QUERY), plain.packed(QUERY))
    eight = random_checkpoint(GROUPED, "Q8_0")
    assert matrix_plan(eight, "q8") == matrix_plan(eight)


def test_four_bits_leave_the_embedding_at_eight() -> None:
    kinds = {matrix.name: matrix.kind for matrix in matrix_plan(random_checkpoint(TINY, "F16"), "q4")}
    assert {name for name, kind in kinds.items() if kind == "q8"} == {EMBEDDING, "output.weight"}
    assert set(kinds.values()) == {"q8", "q4"}


def test_columns_that_are_no_whole_groups_stay_floats() -> None:
    checkpoint = random_checkpoint(TINY.replace(ffn_dim=50))
    kinds = {matrix.name: matrix.kind for matrix in matrix_plan(checkpoint, "q4")}
    assert {name for name, kind in kinds.items() if kind == "float32"} == {
        f"layers.{i}.feed_forward.down.weight" for i in range(TINY.n_layers)
    }
    (tokens,) = token_rows([30], TINY.vocab_size)
    expected = all_logits(open_native(checkpoint, threads=1), tokens)
    got = all_logits(open_native(checkpoint, threads=1, storage=Storage(quant="q8")), tokens)
    assert divergence(expected, got) < 1e-3


def test_the_default_model_in_fewer_bits(default_gguf: Path) -> None:
    """Its weights unpacked to float32, then brought down again: what is left is the rounding of activations (some
    0.004), since 8 bits cost next to nothing and 4 find the steps that the weights had.
    """
    with open_checkpoint(default_gguf) as checkpoint:
        floats = in_floats(checkpoint)
    tokens = np.array(TEXT, dtype=np.int32)
    expected = all_logits(open_native(floats), tokens)
    losses = {}
    for quant in ("q8", "q4"):
        losses[quant] = divergence(expected, all_logits(open_native(floats, storage=Storage(quant=quant)), tokens))
    assert losses["q8"] < 0.01, losses
    assert losses["q4"] < 0.01, losses


def test_other_words_are_refused(empu: Run, default_gguf: Path) -> None:  # noqa: F811
    with pytest.raises(EmpuError, match="kept as 'q3'; there are q8, q4"):
        Storage(quant="q3")
    with open_checkpoint(default_gguf) as checkpoint, pytest.raises(EmpuError, match="leave --quant"):
        open_backend(checkpoint, engine="torch", storage=Storage(quant="q8"))
    outcome = empu("run", str(default_gguf), "hi", "--quant", "q3")
    assert outcome.code == 2
    assert "'q3' is not one of 'q8', 'q4'" in outcome.err
    with pytest.raises(_native.Error, match="no kind of matrix"):
        _native.matrix_bytes("q3", 32, 32)
