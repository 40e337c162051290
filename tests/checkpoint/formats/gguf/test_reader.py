"""The GGUF reader: equal to the gguf package on files of its own writer; other models are refused by name."""

from __future__ import annotations

import dataclasses
import math
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import Checkpoint, open_checkpoint
from empu.checkpoint.block_types import BF16, F16, F32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, BlockType
from empu.checkpoint.formats.gguf.config import rope_factors
from empu.checkpoint.formats.gguf.reader import is_gguf, read_provenance
from empu.checkpoint.tensor_names import expected_tensors
from empu.config import PRESETS, LinearRopeScaling, ModelConfig, RopeScaling, preset
from empu.errors import CheckpointError, UnsupportedError
from tests.checkpoint.formats.gguf import raw_file
from tests.checkpoint.formats.gguf.raw_file import (
    ARRAY,
    BOOL,
    F64,
    I32,
    I64,
    SMALLEST,
    STRING,
    U32,
    U64,
    RawGguf,
    value,
    write_with_gguf_package,
)


def open_raw(path: Path, raw: RawGguf) -> Checkpoint:
    path.write_bytes(raw.bytes())
    return open_checkpoint(path)


def random_tensors(config: ModelConfig, rng: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    return {t.stored_name: rng.standard_normal(t.shape, dtype=np.float32) for t in expected_tensors(config, "gguf")}


# The original file


def test_the_default_model_opens_as_its_preset(default_gguf: Path) -> None:
    with open_checkpoint(default_gguf) as checkpoint:
        assert checkpoint.config == preset("smollm2-135m")
        assert checkpoint.format == "gguf"
        assert checkpoint.files == (default_gguf,)
        assert checkpoint.provenance.licence == "apache-2.0"
        assert checkpoint.provenance.source == "HuggingFaceTB"
        assert checkpoint.provenance.training_data == "not disclosed"
        assert len(checkpoint.metadata["tokenizer.ggml.tokens"]) == 49_152
        types = Counter(tensor.type.name for tensor in checkpoint.tensors())
        assert types == {"Q4_1": 210, "F32": 61, "Q8_0": 1}


def test_every_value_of_the_default_model_equals_the_reference_reader(default_gguf: Path) -> None:
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(default_gguf).tensors}
    with open_checkpoint(default_gguf) as checkpoint:
        stored_names = {t.name: t.stored_name for t in expected_tensors(checkpoint.config, "gguf")}
        assert set(stored_names.values()) == set(reference)
        for name, stored_name in stored_names.items():
            theirs = gguf.quants.dequantize(reference[stored_name].data, reference[stored_name].tensor_type)
            ours = checkpoint.tensor(name).float32()
            assert ours.shape == theirs.shape
            assert ours.tobytes() == theirs.astype(np.float32).tobytes(), name


def test_opening_the_default_model_is_fast_and_small(default_gguf: Path) -> None:
    """The bound is loose for busy machines; the best of five runs counts."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        open_checkpoint(default_gguf).close()
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    checkpoint = open_checkpoint(default_gguf)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"opened in {min(times) * 1e3:.0f} ms with {peak / 1e6:.1f} MB; the file has {default_gguf.stat().st_size:,}")
    assert len(checkpoint.names()) == 272
    assert min(times) < 0.3
    assert peak < 30e6


def test_opening_a_file_of_5_gb_takes_little_memory(tmp_path: Path) -> None:
    """A sparse file with the shape of Llama 3.1 8B in Q4_1, of which only the header is read."""
    config = preset("llama-3.1-8b")
    path = tmp_path / "big.gguf"
    raw = RawGguf(keys=list(raw_file.key_values(config).items()))
    offset = 0
    for tensor in expected_tensors(config, "gguf"):
        type_, kind = (F32, 0) if len(tensor.shape) == 1 else (Q4_1, 3)
        raw.infos.append(raw_file.info(tensor.stored_name, list(reversed(tensor.shape)), kind, offset))
        size = math.prod(tensor.shape) // type_.block_values * type_.block_bytes
        offset += -(-size // 32) * 32
    raw.infos.append(raw_file.info("rope_freqs.weight", [64], 0, offset))
    assert config.rope_scaling == RopeScaling()
    with path.open("wb") as file:
        file.write(raw.bytes())
        file.seek(offset, 1)
        file.write(rope_factors(config, RopeScaling()).tobytes())
    assert path.stat().st_size > 4.9e9
    tracemalloc.start()
    start = time.perf_counter()
    checkpoint = open_checkpoint(path)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert checkpoint.config == config
    assert peak < 20e6
    assert seconds < 2


# Against the gguf package's writer


@pytest.mark.parametrize("seed", range(25))
def test_random_files_of_the_reference_writer_open_equal(tmp_path: Path, seed: int) -> None:
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    kv_heads = chance.choice([1, 2])
    config = ModelConfig(
        n_layers=chance.randint(1, 3),
        dim=chance.choice([32, 64, 96]),
        n_heads=kv_heads * chance.choice([1, 2, 3]),
        n_kv_heads=kv_heads,
        ffn_dim=chance.choice([32, 96]),
        vocab_size=chance.randint(3, 40),
        head_dim=chance.choice([32, 64]),
        context_length=chance.randint(1, 100_000),
        norm_eps=chance.choice([1e-5, 1e-6, 0.001]),
        rope_theta=float(chance.randint(1, 1_000_000)),
        tie_embeddings=chance.random() < 0.5,
        sliding_window=chance.choice([None, 4096]),
    )
    types = {
        name: chance.choice([F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0]) for name in random_tensors(config, rng)
    }
    extra = _random_metadata(chance)
    path = tmp_path / "m.gguf"
    stored = write_with_gguf_package(
        path,
        config,
        random_tensors(config, rng),
        types.__getitem__,
        lambda writer: _add(writer, extra),
        alignment=chance.choice([None, 8, 32, 64, 256]),
    )
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config == config
        for tensor in expected_tensors(config, "gguf"):
            ours = checkpoint.tensor(tensor.name)
            assert ours.type is types[tensor.stored_name]
            assert ours.shape == checkpoint.shape(tensor.name) == tensor.shape
            assert ours.data.tobytes() == stored[tensor.stored_name].tobytes()
        for key, content in extra.items():
            found = checkpoint.metadata[key]
            found = found.tolist() if isinstance(found, np.ndarray) else found
            assert (found, type(found)) == (content, type(content)), key


def _random_metadata(chance: random.Random) -> dict[str, Any]:
    """Return random metadata by key. Each key ends in the name of its type."""
    generators: dict[str, Callable[[], Any]] = {
        "uint8": lambda: chance.randrange(1 << 8),
        "int8": lambda: chance.randrange(-128, 128),
        "uint16": lambda: chance.randrange(1 << 16),
        "int16": lambda: chance.randrange(-(1 << 15), 1 << 15),
        "uint32": lambda: chance.randrange(1 << 32),
        "int32": lambda: chance.randrange(-(1 << 31), 1 << 31),
        "uint64": lambda: chance.randrange(1 << 64),
        "int64": lambda: chance.randrange(-(1 << 63), 1 << 63),
        "float32": lambda: chance.randrange(-9999, 9999) / 8,
        "float64": lambda: chance.uniform(-1e300, 1e300),
        "bool": lambda: chance.random() < 0.5,
        "string": lambda: "".join(chance.choices("aé名😀 \n\0", k=chance.randrange(1, 30))),
    }
    list_types = ("int32", "float32", "bool", "string")
    result: dict[str, Any] = {}
    for number in range(chance.randint(0, 20)):
        type_name = chance.choice(list(generators))
        is_list = type_name in list_types and chance.random() < 0.5
        result[f"custom.{number}.{type_name}"] = (
            [generators[type_name]() for _ in range(chance.randint(1, 40))] if is_list else generators[type_name]()
        )
    return result


def _add(writer: gguf.GGUFWriter, metadata: dict[str, Any]) -> None:
    for key, content in metadata.items():
        if isinstance(content, list):
            writer.add_array(key, content)
        else:
            getattr(writer, f"add_{key.rsplit('.', 1)[-1]}")(key, content)


# Config


def test_the_smallest_file_opens(tmp_path: Path) -> None:
    checkpoint = open_raw(tmp_path / "m.gguf", RawGguf.smallest())
    assert checkpoint.config == SMALLEST
    assert checkpoint.metadata["tokenizer.ggml.tokens"][4] == "名"
    assert checkpoint.tensor("layers.0.feed_forward.gate.weight").float32().shape == (6, 4)
    with pytest.raises(CheckpointError, match=r"has no tensor 'layers\.7"):
        checkpoint.tensor("layers.7.attention.q.weight")


def test_version_2_opens_like_version_3(tmp_path: Path) -> None:
    raw = RawGguf.smallest()
    raw.version = 2
    assert open_raw(tmp_path / "m.gguf", raw).config == SMALLEST


@pytest.mark.parametrize(
    ("key", "content", "changes"),
    [
        ("llama.attention.layer_norm_rms_epsilon", value(F64, 1e-6), {"norm_eps": 1e-6}),
        ("llama.rope.freq_base", value(U32, 500_000), {"rope_theta": 500_000.0}),
        ("llama.block_count", value(U64, 1), {}),
        ("llama.block_count", value(I64, 1), {}),
        ("llama.vocab_size", value(U32, 5), {}),
        ("llama.rope.scaling.factor", value(raw_file.F32, 4.0), {"rope_scaling": LinearRopeScaling(4.0)}),
        ("llama.rope.scale_linear", value(raw_file.F32, 2.5), {"rope_scaling": LinearRopeScaling(2.5)}),
        ("llama.rope.scaling.factor", value(raw_file.F32, 1.0), {}),
        ("llama.rope.scaling.factor", value(raw_file.F32, 0.0), {}),
        ("llama.rope.scaling.type", value(STRING, "none"), {}),
        ("llama.attention.sliding_window", value(U32, 9), {"sliding_window": 9}),
        ("llama.attention.sliding_window", value(U32, 0), {}),
        ("llama.expert_count", value(U32, 0), {}),
        ("llama.attention.key_length", value(U32, 2), {}),
        ("split.count", value(U32, 1), {}),
        ("general.alignment", value(U32, 32), {}),
    ],
)
def test_keys_have_the_meaning_of_llama_cpp(tmp_path: Path, key: str, content: bytes, changes: dict[str, Any]) -> None:
    assert open_raw(tmp_path / "m.gguf", RawGguf.smallest().set(key, content)).config == SMALLEST.replace(**changes)


def test_scaling_of_type_none_ignores_the_factor(tmp_path: Path) -> None:
    raw = RawGguf.smallest().set("llama.rope.scaling.type", value(STRING, "none"))
    raw.set("llama.rope.scaling.factor", value(raw_file.F32, 4.0))
    assert open_raw(tmp_path / "m.gguf", raw).config.rope_scaling is None


@pytest.mark.parametrize("key", ["llama.attention.head_count_kv", "llama.rope.freq_base", "llama.rope.dimension_count"])
def test_optional_keys_may_be_absent(tmp_path: Path, key: str) -> None:
    config = SMALLEST.replace(n_kv_heads=2)
    assert open_raw(tmp_path / "m.gguf", RawGguf.smallest(config).without(key)).config == config


def test_an_absent_output_matrix_means_tied_embeddings(tmp_path: Path) -> None:
    config = SMALLEST.replace(tie_embeddings=True)
    assert open_raw(tmp_path / "m.gguf", RawGguf.smallest(config)).config == config


# Frequency factors


def llama_cpp_frequency_factors(config: ModelConfig, factor: float) -> npt.NDArray[np.float32]:
    """Return the frequency factors as llama.cpp's conversion script computes them: in float32, one at a time."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    result = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / float(frequency)
        if wavelength < 8192 / 4:
            result.append(1.0)
        elif wavelength > 8192 / 1:
            result.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            result.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(result, dtype=np.float32)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.2-1b", "llama-3.2-3b"])
def test_frequency_factors_become_the_scaling_of_the_preset(tmp_path: Path, name: str) -> None:
    original = PRESETS[name]
    assert isinstance(original.rope_scaling, RopeScaling)
    config = SMALLEST.replace(
        head_dim=original.head_dim, rope_theta=original.rope_theta, context_length=original.context_length
    )
    factors = llama_cpp_frequency_factors(original, original.rope_scaling.factor)
    assert len(set(factors.tolist())) > 4
    np.testing.assert_allclose(rope_factors(original, original.rope_scaling), factors, rtol=1e-4)
    raw = RawGguf.smallest(config)
    raw.add("rope_freqs.weight", factors)
    checkpoint = open_raw(tmp_path / "m.gguf", raw)
    assert checkpoint.config == config.replace(rope_scaling=original.rope_scaling)
    assert "rope_freqs.weight" not in checkpoint.names()


def test_frequency_factors_of_one_mean_no_scaling(tmp_path: Path) -> None:
    config = SMALLEST.replace(head_dim=8)
    raw = RawGguf.smallest(config)
    raw.add("rope_freqs.weight", np.ones(4, np.float32))
    assert open_raw(tmp_path / "m.gguf", raw).config == config


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (np.linspace(1, 8, 32), r"other factors than Llama 3.1's scaling by 8 \(number 1 is 1.2"),
        (np.ones(16), r"has the shape \(16,\); expected \(32,\)"),
        (np.full(32, np.nan), "factor is nan"),
        (np.full(32, np.inf), "factor is inf"),
        (np.zeros(32), "factor is 0"),
        (np.full(32, 8.0), "number 0 is 8 instead of 1"),
        (np.where(np.arange(32) == 3, np.nan, 1.0), "factor is nan"),
    ],
)
def test_other_frequency_factors_are_refused(tmp_path: Path, factors: npt.NDArray[np.float64], message: str) -> None:
    raw = RawGguf.smallest(SMALLEST.replace(head_dim=64, rope_theta=500_000.0))
    raw.add("rope_freqs.weight", factors.astype("<f4"))
    with pytest.raises(CheckpointError, match=message):
        open_raw(tmp_path / "m.gguf", raw)


# Unsupported models


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("general.architecture", value(STRING, "qwen2"), r"general.architecture at byte \d+ is 'qwen2'; .* Llama fam"),
        ("general.architecture", value(STRING, "llama4"), "'llama4'"),
        ("general.type", value(STRING, "adapter"), "general.type at byte .* is 'adapter'; Empu opens whole models"),
        ("split.count", value(raw_file.U16, 3), "split.count at byte .* one part of a split model; join"),
        ("llama.expert_count", value(U32, 8), "llama.expert_count at byte .* is 8: a mixture of experts"),
        ("llama.rope.scaling.type", value(STRING, "yarn"), "llama.rope.scaling.type at byte .* is 'yarn'"),
        ("llama.attention.value_length", value(U32, 4), "llama.attention.value_length at byte .* is 4 and the heads"),
        ("llama.rope.dimension_count", value(U32, 1), "llama.rope.dimension_count at byte .* is 1 and the heads"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path: Path, key: str, content: bytes, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        open_raw(tmp_path / "m.gguf", RawGguf.smallest().set(key, content))


@pytest.mark.parametrize(
    ("number", "name"), [(23, "IQ4_XS"), (16, "IQ2_XXS"), (39, "MXFP4"), (15, "Q8_K"), (99, "number 99"), (4, "Q4_2")]
)
def test_unsupported_tensor_types_are_refused_by_name(tmp_path: Path, number: int, name: str) -> None:
    raw = RawGguf.smallest()
    raw.infos[0] = raw_file.info("token_embd.weight", [4, 5], number, 0)
    with pytest.raises(
        UnsupportedError, match=rf"tensor 'token_embd.weight' \(listed at byte \d+\) has the type {name},"
    ):
        open_raw(tmp_path / "m.gguf", raw)


def test_other_versions_are_refused_by_name(tmp_path: Path) -> None:
    for version, message in ((1, "version 1"), (3 << 24, "big-endian"), (2 << 24, "big-endian"), (4, "version 4")):
        raw = RawGguf.smallest()
        raw.version = version
        with pytest.raises(UnsupportedError, match=message):
            open_raw(tmp_path / "m.gguf", raw)


def test_the_error_lists_missing_and_unexpected_tensors(tmp_path: Path) -> None:
    raw = RawGguf.smallest()
    raw.infos[1] = raw.infos[1].replace(b"attn_norm", b"attn_bias")
    with pytest.raises(
        CheckpointError, match=r"missing layers.0.attention_norm.weight; unexpected 'blk.0.attn_bias.wei"
    ):
        open_raw(tmp_path / "m.gguf", raw)


def test_a_canonical_name_in_the_file_is_refused(tmp_path: Path) -> None:
    raw = RawGguf.smallest()
    raw.infos[0] = raw_file.info("embedding.weight", [4, 5], 0, 0)
    raw.set("llama.vocab_size", value(U32, 5))
    with pytest.raises(CheckpointError, match=r"tensor 'embedding\.weight' at byte .* does not have a GGUF name"):
        open_raw(tmp_path / "m.gguf", raw)


def test_is_gguf_checks_the_magic_number(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for content, expected in ((b"GGUF", True), (b"GGU", False), (b"", False), (b"\x80\x02", False), (b"FUGG", False)):
        path.write_bytes(content)
        assert is_gguf(path) is expected
    assert not is_gguf(tmp_path)
    assert not is_gguf(tmp_path / "absent")


# Provenance


def test_provenance_is_read_from_the_general_keys() -> None:
    provenance = read_provenance(
        {
            "general.name": "Mine",
            "general.license": "other",
            "general.license.name": "llama3.1",
            "general.license.link": "https://example.org/licence",
            "general.source.url": "https://example.org/model",
            "general.organization": "Example",
            "general.base_model.count": 2,
            "general.base_model.0.name": "Base",
            "general.base_model.0.repo_url": "https://example.org/base",
            "general.base_model.1.name": "Other",
            "general.dataset.count": 1,
            "general.dataset.0.name": "Rows",
        }
    )
    assert dataclasses.asdict(provenance) == {
        "name": "Mine",
        "licence": "llama3.1",
        "licence_text": None,
        "source": "https://example.org/model",
        "base_models": ("https://example.org/base", "Other"),
        "training_data": "data sets named in the file: Rows",
    }


@pytest.mark.parametrize("count", ["2", 1 << 63, -1, 1.5, True, None, np.arange(3)])
def test_provenance_ignores_values_of_the_wrong_type(count: object) -> None:
    provenance = read_provenance(
        {
            "general.name": 7,
            "general.license": ["mit"],
            "general.dataset.count": count,
            "general.datasets": np.arange(3),
            "general.base_model.count": count,
        }
    )
    assert provenance.name is None
    assert provenance.licence is None
    assert provenance.base_models == ()
    assert provenance.training_data == "not disclosed"


def test_listed_data_sets_are_disclosed() -> None:
    assert read_provenance({"general.datasets": ["a/b", "c/d"]}).training_data.endswith(": a/b, c/d")


def test_flags_and_nested_arrays_are_read(tmp_path: Path) -> None:
    raw = RawGguf.smallest().set("custom.flags", value(ARRAY, (BOOL, [True, False])))
    raw.set("custom.nested", value(ARRAY, (ARRAY, [(I32, [1, -2]), (STRING, ["a"]), (ARRAY, [])])))
    metadata = open_raw(tmp_path / "m.gguf", raw).metadata
    assert metadata["custom.flags"].tolist() == [True, False]
    nested = metadata["custom.nested"]
    assert [nested[0].tolist(), *nested[1:]] == [[1, -2], ["a"], []]


def test_rows_must_be_whole_blocks(tmp_path: Path) -> None:
    """Rows that are not a whole number of blocks are refused, whatever the total."""
    types: list[tuple[int, BlockType]] = [(2, Q4_0), (8, Q8_0)]
    for number, type_ in types:
        raw = RawGguf.smallest()
        raw.infos[0] = raw_file.info("token_embd.weight", [4, 8], number, 0)
        with pytest.raises(CheckpointError, match=f"rows of 4 values, not a multiple of 32 as {type_.name} needs"):
            open_raw(tmp_path / "m.gguf", raw)
