"""The GGUF writer: our reader and the gguf package read its files back; a failure leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from empu.checkpoint import StoredTensor, open_checkpoint
from empu.checkpoint.block_types import BF16, F16, F32, Q4_0, Q4_1, Q6_K, Q8_0, BlockType
from empu.checkpoint.formats.gguf.writer import default_types, write_gguf
from empu.checkpoint.tensor_names import Shape, expected_shapes, expected_tensors
from empu.config import LinearRopeScaling, ModelConfig, RopeScaling, preset
from empu.errors import CheckpointError

TINY = preset("tiny")
METADATA: dict[str, Any] = {
    "general.name": "Mine",
    "general.license": "apache-2.0",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "é", "名", "", "\x00"],
    "tokenizer.ggml.token_type": [1, 1, 3, -4, 5],
    "tokenizer.ggml.scores": [0.5, 1, -2.0],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.add_bos_token": True,
    "custom.flags": [True, False],
    "custom.negative": -5,
    "custom.long": 1 << 40,
    "custom.longest": (1 << 64) - 1,
    "custom.least": -(1 << 63),
    "custom.fraction": 0.25,
    "custom.huge": 1e300,
    "custom.infinite": float("inf"),
    "custom.narrow": np.uint8(200),
    "custom.array": np.array([1, 2, 3], dtype=np.int64),
    "custom.empty": [],
    "custom.nested": [[1, 2], ["x"], []],
}


def random_source(config: ModelConfig, type_: BlockType = F32, seed: int = 0) -> dict[str, StoredTensor]:
    assert type_.pack is not None
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in expected_shapes(config).items():
        values = rng.standard_normal(shape, dtype=np.float32).reshape(-1)
        kind = type_ if len(shape) == 2 else F32
        assert kind.pack is not None
        result[name] = StoredTensor(name, shape, kind, kind.pack(values))
    return result


def plain(value: Any) -> Any:
    return (
        [plain(item) for item in value]
        if isinstance(value, (list, np.ndarray))
        else getattr(value, "item", lambda: value)()
    )


@pytest.mark.parametrize("type_", [F32, F16, BF16, Q4_0, Q4_1, Q8_0], ids=lambda type_: type_.name)
def test_both_readers_read_the_written_file(tmp_path: Path, type_: BlockType) -> None:
    source = random_source(TINY)
    path = tmp_path / "m.gguf"
    write_gguf(path, TINY, source.__getitem__, type_for=default_types(type_), metadata=METADATA)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config == TINY
        assert checkpoint.provenance.name == "Mine"
        for key, value in METADATA.items():
            assert plain(checkpoint.metadata[key]) == plain(value), key
        for expected in expected_tensors(TINY, "gguf"):
            ours, reference = checkpoint.tensor(expected.name), theirs[expected.stored_name]
            assert ours.type is (type_ if len(expected.shape) == 2 else F32)
            values = source[expected.name].float32()
            packed = gguf.quants.quantize(values, reference.tensor_type)
            assert ours.data.tobytes() == packed.tobytes() == reference.data.tobytes()
            assert tuple(reversed(reference.shape.tolist())) == expected.shape
    assert len(theirs) == len(source)
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_reference_reader_sees_the_same_keys_and_types(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, TINY, random_source(TINY).__getitem__, type_for=default_types(Q4_0), metadata=METADATA)
    fields = gguf.GGUFReader(path).fields
    for key, value in METADATA.items():
        if key not in ("custom.nested", "custom.empty"):  # the reference flattens the one and cannot index the other
            assert plain(fields[key].contents()) == plain(value), key
    kinds = gguf.GGUFValueType
    for key, kind in {
        "general.architecture": kinds.STRING,
        "general.file_type": kinds.UINT32,
        "general.quantization_version": kinds.UINT32,
        "llama.block_count": kinds.UINT32,
        "llama.attention.layer_norm_rms_epsilon": kinds.FLOAT32,
        "llama.rope.freq_base": kinds.FLOAT32,
        "tokenizer.ggml.bos_token_id": kinds.UINT32,
        "tokenizer.ggml.add_bos_token": kinds.BOOL,
        "custom.negative": kinds.INT32,
        "custom.long": kinds.UINT64,
        "custom.least": kinds.INT64,
        "custom.huge": kinds.FLOAT64,
        "custom.narrow": kinds.UINT8,
    }.items():
        assert fields[key].types == [kind], key
    assert fields["tokenizer.ggml.token_type"].types == [kinds.ARRAY, kinds.INT32]
    assert fields["tokenizer.ggml.scores"].types == [kinds.ARRAY, kinds.FLOAT32]
    assert fields["general.file_type"].contents() == int(gguf.LlamaFileType.MOSTLY_Q4_0)


def test_a_copy_of_the_default_model_has_equal_tensors_and_metadata(default_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.gguf"
    with open_checkpoint(default_gguf) as original:
        write_gguf(
            path,
            original.config,
            original.tensor,
            type_for=lambda name, shape: original.tensor(name).type,
            metadata=original.metadata,
        )
        theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        with open_checkpoint(path) as copy:
            assert copy.config == original.config
            assert copy.provenance == original.provenance
            assert sorted(copy.names()) == sorted(original.names())
            for expected in expected_tensors(original.config, "gguf"):
                ours, first = copy.tensor(expected.name), original.tensor(expected.name)
                assert (ours.type, ours.shape) == (first.type, first.shape)
                assert np.array_equal(ours.data, first.data)
                assert np.array_equal(theirs[expected.stored_name].data.reshape(-1).view(np.uint8), first.data)
            for key, value in original.metadata.items():
                copied = copy.metadata[key]
                assert type(copied) is type(value), key
                assert np.array_equal(copied, value) if isinstance(value, np.ndarray) else copied == value, key


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": LinearRopeScaling(4.0)},
        {"rope_scaling": RopeScaling()},
        {"rope_scaling": RopeScaling(factor=32.0)},
        {"rope_scaling": RopeScaling(factor=4.0, low_freq_factor=0.5, high_freq_factor=2.25, original_context=512)},
        {"rope_scaling": RopeScaling(factor=8.0, original_context=1)},
        {"tie_embeddings": True, "rope_theta": 1e6},
        {"sliding_window": 4096, "norm_eps": 1e-6, "context_length": 32_768},
        {"head_dim": 32, "n_kv_heads": 1},
    ],
)
def test_every_config_is_read_back(tmp_path: Path, changes: dict[str, object]) -> None:
    config = TINY.replace(**changes)
    path = tmp_path / "m.gguf"
    write_gguf(path, config, random_source(config).__getitem__, type_for=default_types(F16), metadata={})
    assert open_checkpoint(path).config == config


def test_keys_that_follow_from_the_config_are_ignored_in_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    stale = {"llama.block_count": 99, "general.alignment": 7, "general.architecture": "x", "split.count": 3}
    stale |= {"llama.rope.scaling.factor": 2.0, "general.file_type": 77}
    write_gguf(path, TINY, random_source(TINY).__getitem__, type_for=default_types(F32), metadata=stale)
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == TINY
    assert checkpoint.metadata["general.file_type"] == 0
    assert "general.quantization_version" not in checkpoint.metadata
    assert not {"general.alignment", "split.count", "llama.rope.scaling.factor"} & set(checkpoint.metadata)


def test_rows_that_are_not_a_multiple_of_a_block_are_f16() -> None:
    choose = default_types(Q8_0)
    assert choose("layers.0.attention.q.weight", (64, 64)) is Q8_0
    assert choose("layers.0.attention.q.weight", (64, 48)) is F16
    assert choose("norm.weight", (64,)) is F32


def test_each_tensor_is_requested_once(tmp_path: Path) -> None:
    source, requested = random_source(TINY), list[str]()

    def load(name: str) -> StoredTensor:
        requested.append(name)
        return source[name]

    write_gguf(tmp_path / "m.gguf", TINY, load, type_for=default_types(F32), metadata={})
    assert sorted(requested) == sorted(source)


def with_value(value: float) -> Callable[[str], StoredTensor]:
    source = random_source(TINY)
    values = source["output.weight"].float32()
    values[3, 5] = value
    source["output.weight"] = StoredTensor("output.weight", values.shape, F32, values.reshape(-1).view(np.uint8))
    return source.__getitem__


def constant(type_: BlockType) -> Callable[[str, Shape], BlockType]:
    return lambda name, shape: type_


@pytest.mark.parametrize(
    ("source", "type_for", "metadata", "message"),
    [
        (with_value(np.nan), default_types(Q4_0), {}, "output.weight holds values that are not finite; Q4_0"),
        (with_value(np.inf), default_types(Q8_0), {}, "output.weight holds values that are not finite; Q8_0"),
        (with_value(1e6), default_types(F16), {}, r"output.weight holds 1e\+06, which is beyond the range of F16"),
        (with_value(1e30), default_types(Q8_0), {}, r"output.weight holds 1e\+30, which is beyond the range of Q8_0"),
        (with_value(3e38), default_types(Q4_1), {}, r"output.weight holds 3e\+38, which is beyond the range of Q4_1"),
        (with_value(0), constant(Q6_K), {}, "rows of 64 values, not a multiple of 256 as Q6_K needs"),
        (with_value(0), default_types(F32), {"a": None}, "key a holds '.None.', which GGUF cannot store"),
        (with_value(0), default_types(F32), {"a": 1 << 64}, "key a holds .*GGUF cannot store"),
        (with_value(0), default_types(F32), {"a": [1, "x"]}, "key a holds .*GGUF cannot store"),
        (with_value(0), default_types(F32), {"a": [True, 2]}, "key a holds .*GGUF cannot store"),
        (with_value(0), default_types(F32), {"a": {"b": 1}}, "key a holds .*GGUF cannot store"),
        (with_value(0), default_types(F32), {"a": np.array([1j])}, "key a holds complex128 values"),
        (with_value(0), default_types(F32), {"a": "\ud800"}, "cannot be written as UTF-8"),
    ],
)
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path,
    source: Callable[[str], StoredTensor],
    type_for: Callable[[str, Shape], BlockType],
    metadata: dict[str, Any],
    message: str,
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"before")
    with pytest.raises(CheckpointError, match=message):
        write_gguf(path, TINY, source, type_for=type_for, metadata=metadata)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    other = random_source(TINY.replace(ffn_dim=128))
    with pytest.raises(
        CheckpointError, match=r"feed_forward.gate.weight has the shape \(128, 64\); .* asks for \(96, 64\)"
    ):
        write_gguf(tmp_path / "m.gguf", TINY, other.__getitem__, type_for=default_types(F32), metadata={})
    assert list(tmp_path.iterdir()) == []


def test_read_only_types_can_be_copied_but_not_packed(tmp_path: Path) -> None:
    config = TINY.replace(dim=256, head_dim=64, ffn_dim=256)
    source = random_source(config)
    rng = np.random.default_rng(1)

    def quantised(name: str) -> StoredTensor:
        tensor = source[name]
        if len(tensor.shape) == 1:
            return tensor
        data: npt.NDArray[np.uint8] = rng.integers(
            0, 60, tensor.shape[0] * tensor.shape[1] // 256 * 210, dtype=np.uint8
        )
        return StoredTensor(name, tensor.shape, Q6_K, data)

    path = tmp_path / "m.gguf"
    write_gguf(path, config, quantised, type_for=default_types(Q6_K), metadata={})
    assert open_checkpoint(path).tensor("output.weight").type is Q6_K
    with pytest.raises(CheckpointError, match="is F32 and should become Q6_K, which Empu reads but cannot write"):
        write_gguf(path, config, source.__getitem__, type_for=default_types(Q6_K), metadata={})


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_gguf(
            tmp_path / "no" / "m.gguf", TINY, random_source(TINY).__getitem__, type_for=default_types(F32), metadata={}
        )
