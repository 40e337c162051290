"""The weight cache: a valid file is mapped; in every other case the weights are packed again."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pytest

from empu.config import ModelConfig
from empu.engine import _native
from empu.engine.backends import weight_cache
from empu.engine.backends.native import NativeBackend, open_native
from empu.engine.backends.native_weights import build_native_model
from empu.engine.backends.options import BackendOptions, WeightCacheLocation
from empu.system.file_stamp import boot_id
from tests.engine.backends.memory_checkpoint import (
    FloatArray,
    MemoryCheckpoint,
    all_logits,
    random_checkpoint,
    random_prompts,
)

SHAPE = ModelConfig(n_layers=1, dim=64, n_heads=2, n_kv_heads=1, head_dim=32, ffn_dim=96, vocab_size=50)


@pytest.fixture(autouse=True)
def _cache_small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache, "_MIN_BYTES", 0)


class CachedModel(NamedTuple):
    location: WeightCacheLocation
    checkpoint: MemoryCheckpoint
    logits: FloatArray
    messages: list[str]

    @property
    def file(self) -> Path:
        (path,) = self.location.folder.glob("*.bin")
        return path

    def open(self) -> NativeBackend:
        return open_native(self.checkpoint, threads=1, options=BackendOptions(weight_cache=self.location))

    def build(self) -> _native.Model:
        return build_native_model(self.checkpoint, BackendOptions(weight_cache=self.location))


def sample_logits(backend: NativeBackend) -> FloatArray:
    (tokens,) = random_prompts([20], SHAPE.vocab_size)
    return all_logits(backend, tokens)


def uncached_model(folder: Path, type_name: str = "Q4_1", model_id: str = "a") -> CachedModel:
    messages: list[str] = []
    checkpoint = random_checkpoint(SHAPE, type_name)
    location = WeightCacheLocation(folder / "cache" / "packed", {"model": model_id}, messages.append)
    return CachedModel(location, checkpoint, sample_logits(open_native(checkpoint, threads=1)), messages)


@pytest.fixture
def cached(tmp_path: Path) -> CachedModel:
    """A model whose packed weights are in their cache file."""
    model = uncached_model(tmp_path)
    assert model.build().mapped_bytes() == 0
    return model


@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0", "F32", "F16"])
def test_the_second_start_maps_the_weights_that_the_first_packed(tmp_path: Path, type_name: str) -> None:
    model = uncached_model(tmp_path, type_name)
    np.testing.assert_array_equal(sample_logits(model.open()), model.logits)
    mapped = model.build()
    assert mapped.mapped_bytes() == mapped.weight_bytes() > 0
    np.testing.assert_array_equal(sample_logits(model.open()), model.logits)
    for name in model.checkpoint.names():
        if len(model.checkpoint.shape(name)) == 2:
            np.testing.assert_array_equal(
                mapped.packed_bytes(name), build_native_model(model.checkpoint).packed_bytes(name)
            )
    assert model.messages == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux has this file")
def test_mapped_pages_are_shared_and_read_only(cached: CachedModel) -> None:
    native_model = cached.build()
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(cached.file.name)]
    assert {line.split()[1] for line in lines} == {"r--s"}
    tensor = cached.checkpoint.tensor("layers.0.attention.q.weight")
    with pytest.raises(_native.Error, match="cannot be changed"):
        native_model.pack(tensor.name, 0, tensor.shape[0], "Q4_1", tensor.data)


def flip_bit(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "header only": lambda data: data[:4096],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "first weight": lambda data: flip_bit(data, 4096),
    "last weight": lambda data: flip_bit(data, len(data) - 1),
    "header": lambda data: flip_bit(data, 30),
    "no header": lambda data: bytes(4096) + data[4096:],
    "a list for a header": lambda data: b"[1]".ljust(4096, b"\0") + data[4096:],
    "nothing but brackets": lambda data: b"[" * 4096 + data[4096:],
    "zeros": lambda data: bytes(len(data)),
    "hash of other weights": lambda data: data[:4096] + bytes(len(data) - 4096),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_packed_again(cached: CachedModel, damage: str) -> None:
    valid = cached.file.read_bytes()
    cached.file.write_bytes(DAMAGE[damage](valid))
    assert cached.build().mapped_bytes() == 0
    assert cached.file.read_bytes() == valid
    assert cached.build().mapped_bytes() > 0
    np.testing.assert_array_equal(sample_logits(cached.open()), cached.logits)


def test_a_pipe_instead_of_the_file_does_not_block(cached: CachedModel) -> None:
    path = cached.file
    path.unlink()
    os.mkfifo(path)
    assert cached.build().mapped_bytes() == 0
    np.testing.assert_array_equal(sample_logits(cached.open()), cached.logits)


def test_a_changed_byte_is_found_despite_an_old_modification_time(cached: CachedModel) -> None:
    before = cached.file.stat()
    with cached.file.open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 4]))
    os.utime(cached.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cached.file.stat().st_mtime_ns == before.st_mtime_ns
    assert cached.build().mapped_bytes() == 0


def test_a_file_without_a_sidecar_is_hashed_once_and_then_trusted(
    cached: CachedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = cached.file.with_suffix(".json")
    original = json.loads(sidecar.read_text())
    for text in ("", "7", "{}", sidecar.read_text().replace("[", "[1")):
        sidecar.write_text(text)
        assert cached.build().mapped_bytes() > 0
        assert json.loads(sidecar.read_text()) == {**original, "boot": None}
    monkeypatch.setattr(weight_cache, "_hash_rest", lambda file: pytest.fail("hashed again"))
    assert cached.build().mapped_bytes() > 0


def test_an_unflushed_file_is_hashed_after_a_restart_of_the_machine(
    cached: CachedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if boot_id() is None:
        pytest.skip("this system has no boot id")
    hashes: list[str] = []
    hash_rest = weight_cache._hash_rest

    def counting_hash(file: BinaryIO) -> str:
        hashes.append(hash_rest(file))
        return hashes[-1]

    monkeypatch.setattr(weight_cache, "_hash_rest", counting_hash)
    assert cached.build().mapped_bytes() > 0
    assert hashes == []
    monkeypatch.setattr(weight_cache, "boot_id", lambda: "another boot")
    assert cached.build().mapped_bytes() > 0
    assert cached.build().mapped_bytes() > 0
    assert len(hashes) == 1


def test_the_file_of_another_model_is_not_used(cached: CachedModel, tmp_path: Path) -> None:
    other = uncached_model(tmp_path / "other", model_id="b")
    other.build()
    shutil.copy(cached.file, other.file)
    assert other.build().mapped_bytes() == 0
    assert other.build().mapped_bytes() > 0


def test_another_layout_or_shape_has_another_file(cached: CachedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "layout_version", _native.layout_version + 1)
    assert cached.build().mapped_bytes() == 0
    assert len(list(cached.location.folder.glob("*.bin"))) == 2
    cached._replace(checkpoint=random_checkpoint(SHAPE, "Q8_0")).build()
    assert len(list(cached.location.folder.glob("*.bin"))) == 3


def test_a_full_disk_is_one_message_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = uncached_model(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1 << 20))
    np.testing.assert_array_equal(sample_logits(model.open()), model.logits)
    (message,) = model.messages
    assert "not cached" in message
    assert "0.0 GiB free" in message
    assert list(model.location.folder.iterdir()) == []


def test_a_disk_that_fills_up_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = uncached_model(tmp_path)

    def disk_full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    monkeypatch.setattr(weight_cache, "boot_id", lambda: None)
    np.testing.assert_array_equal(sample_logits(model.open()), model.logits)
    (message,) = model.messages
    assert "No space left" in message
    assert list(model.location.folder.iterdir()) == []


def test_a_large_file_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = uncached_model(tmp_path)
    monkeypatch.setattr(weight_cache, "_ANNOUNCE_BYTES", 1)
    for _ in range(2):
        model.build()
        (message,) = model.messages
        assert message == "Writing 0.0 GB of packed weights, for faster starts …"


def test_an_impossible_folder_is_one_message(tmp_path: Path) -> None:
    model = uncached_model(tmp_path)
    (tmp_path / "cache").write_text("a file instead of a folder")
    np.testing.assert_array_equal(sample_logits(model.open()), model.logits)
    assert len(model.messages) == 1


def test_files_outside_the_store_are_identified_by_their_stamps(tmp_path: Path) -> None:
    model = uncached_model(tmp_path)
    source = tmp_path / "model.gguf"
    source.write_bytes(b"1")
    model.checkpoint.files = (source,)
    unidentified = model._replace(location=WeightCacheLocation(model.location.folder))
    unidentified.build()
    assert not model.location.folder.exists(), "the file changed a moment ago"
    time.sleep(0.06)
    unidentified.build()
    assert unidentified.build().mapped_bytes() > 0
    assert list(json.loads(unidentified.file.with_suffix(".json").read_text())["source"]["files"]) == [str(source)]
    source.write_bytes(b"2")
    time.sleep(0.06)
    assert unidentified.build().mapped_bytes() == 0
    source.unlink()
    assert unidentified.build().mapped_bytes() == 0


def test_small_models_are_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model = uncached_model(tmp_path)
    model.build()
    assert not model.location.folder.exists()


def test_mapped_weights_reduce_the_default_cache_size(cached: CachedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system counts mapped pages as free."""
    weights = cached.build().weight_bytes()
    block = 64 * SHAPE.kv_bytes_per_token()
    monkeypatch.setattr("empu.engine.backends.native._available_memory", lambda: weights + 10 * block)
    backend = cached.open()
    backend.allocate(8 * 64)
    with pytest.raises(Exception, match="1 tokens needs"):
        backend.allocate(1)
