"""Every block type against the numpy code of the gguf package, bit for bit, unpacking and packing."""

from __future__ import annotations

import pickle

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint.block_types import (
    BF16,
    BLOCK_TYPES_BY_GGML_ID,
    BLOCK_TYPES_BY_NAME,
    F16,
    F32,
    Q4_0,
    Q8_0,
    UNREAD_GGML_TYPES,
    BlockType,
)

TYPES = sorted(BLOCK_TYPES_BY_GGML_ID.values(), key=lambda type_: type_.name)
PACKABLE = [type_ for type_ in TYPES if type_.pack is not None]
N_BLOCKS = 5000
"""More than one step of the unpacking loop."""

FLOAT16_OFFSETS = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
"""Byte offsets of the float16 scales of a block."""


def kind(type_: BlockType) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[type_.name]


def pack(type_: BlockType, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    assert type_.pack is not None
    return type_.pack(values)


def random_bytes(type_: BlockType, rng: np.random.Generator, blocks: int = N_BLOCKS) -> npt.NDArray[np.uint8]:
    """Return blocks of random bits with finite scales of every magnitude."""
    if type_ is F32:
        return rng.standard_normal(blocks).astype("<f4").view(np.uint8)
    data = rng.integers(0, 256, (blocks, type_.block_bytes), dtype=np.uint8)
    for offset in FLOAT16_OFFSETS.get(type_.name, [0] if type_ is F16 else []):
        high = data[:, offset + 1]
        data[:, offset + 1] = np.where(high & 0x7C == 0x7C, high & 0xBF, high)
    if type_ is BF16:
        data[:, 1] &= 0xBF
    return data.reshape(-1)


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.name)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_unpacking_equals_the_reference_bit_for_bit(type_: BlockType, seed: int) -> None:
    data = random_bytes(type_, np.random.default_rng(seed))
    ours = type_.unpack(data)
    theirs = np.asarray(gguf.quants.dequantize(data, kind(type_)), dtype=np.float32).reshape(-1)
    assert ours.dtype == np.float32
    assert ours.shape == (N_BLOCKS * type_.block_values,)
    assert np.isfinite(ours).all()
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.name)
def test_block_sizes_are_those_of_ggml(type_: BlockType) -> None:
    assert (type_.block_values, type_.block_bytes) == gguf.GGML_QUANT_SIZES[kind(type_)]
    assert BLOCK_TYPES_BY_GGML_ID[int(kind(type_))] is type_
    assert BLOCK_TYPES_BY_NAME[type_.name] is type_


def test_every_ggml_type_is_read_or_has_a_name() -> None:
    for theirs in gguf.GGMLQuantizationType:
        if int(theirs) in BLOCK_TYPES_BY_GGML_ID:
            assert BLOCK_TYPES_BY_GGML_ID[int(theirs)].name == theirs.name
        else:
            assert UNREAD_GGML_TYPES[int(theirs)] == theirs.name
    assert not set(UNREAD_GGML_TYPES) & set(BLOCK_TYPES_BY_GGML_ID)


def difficult_values(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return rows of 256 with narrow rounding decisions, and special ones: zero, constant, one outlier, tiny."""
    rows = rng.standard_normal((600, 256), dtype=np.float32) * np.float32(10) ** rng.integers(-6, 4, (600, 1))
    grid = rng.integers(-254, 255, (200, 256)).astype(np.float32) / 2  # ties in Q8_0 when the largest is 127
    grid[:, ::32] = 127
    special = np.zeros((7, 256), np.float32)
    special[1] = 3.25
    special[2] = -3.25
    special[3, 5] = 1e4
    special[4] = -0.0
    special[5, ::7] = 1e-30
    special[6] = np.linspace(-1, 1, 256)
    return np.concatenate([rows.astype(np.float32), grid, special])


@pytest.mark.parametrize("type_", PACKABLE, ids=lambda type_: type_.name)
def test_packing_equals_the_reference_byte_for_byte(type_: BlockType) -> None:
    values = difficult_values(np.random.default_rng(4))
    with np.errstate(all="ignore"):
        theirs = np.asarray(gguf.quants.quantize(values, kind(type_)))
    assert pack(type_, values.reshape(-1)).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("type_", PACKABLE, ids=lambda type_: type_.name)
def test_packing_again_keeps_the_values(type_: BlockType) -> None:
    """Packing is idempotent."""
    values = np.random.default_rng(5).standard_normal(256 * 64).astype(np.float32)
    once = type_.unpack(pack(type_, values))
    again = type_.unpack(pack(type_, once))
    if type_.block_values == 1:
        assert once.tobytes() == again.tobytes()
    else:  # the scale itself is rounded to float16 each time
        np.testing.assert_allclose(again, once, rtol=2**-10, atol=2**-9)


@pytest.mark.parametrize(
    "type_", [BLOCK_TYPES_BY_NAME[name] for name in ("Q4_0", "Q4_1", "Q8_0")], ids=lambda type_: type_.name
)
def test_values_too_small_for_any_scale_pack_to_zero(type_: BlockType) -> None:
    values = np.linspace(-1e-41, 1e-41, 64).astype(np.float32)
    assert not type_.unpack(pack(type_, values)).any()


def test_bf16_rounds_to_even_and_keeps_nan_and_infinity() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F800000, 0xFF800000, 0x7FFFFFFF, 0x7F7FFFFF], dtype="<u4")
    words = pack(BF16, bits.view("<f4")).view("<u2")
    assert [hex(word) for word in words] == ["0x3f80", "0x3f82", "0x3f81", "0x7f80", "0xff80", "0x7fff", "0x7f80"]
    assert np.isnan(BF16.unpack(pack(BF16, np.array([0x7F800001], dtype="<u4").view("<f4"))))[0]


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.name)
def test_damaged_scales_unpack_without_warnings(type_: BlockType) -> None:
    data = np.full(type_.block_bytes * 3, 0xFF, dtype=np.uint8)
    data[: type_.block_bytes] = 0
    assert type_.unpack(data).shape == (3 * type_.block_values,)
    assert type_.unpack(data[:0]).shape == (0,)


def test_types_survive_pickling() -> None:
    copy = pickle.loads(pickle.dumps(Q8_0))
    data = random_bytes(Q4_0, np.random.default_rng(6), 34)
    assert copy.unpack(data).tobytes() == Q8_0.unpack(data).tobytes()
