"""Packed weights on disk: mapped when they are exactly what they should be, packed anew in every other case."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from empu.config import ModelConfig
from empu.engine import _native
from empu.engine.backends import weight_cache
from empu.engine.backends.native import NativeBackend, open_native
from empu.engine.backends.native_weights import build_model
from empu.engine.backends.storage import PackedPlace, Storage
from tests.engine.native_reference import MemoryCheckpoint, random_checkpoint, token_rows
from tests.engine.test_native_backend import all_logits

SHAPE = ModelConfig(n_layers=1, dim=64, n_heads=2, n_kv_heads=1, head_dim=32, ffn_dim=96, vocab_size=50)
Floats = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache, "_LEAST_BYTES", 0)


class Kept(NamedTuple):
    place: PackedPlace
    checkpoint: MemoryCheckpoint
    logits: Floats
    told: list[str]

    @property
    def file(self) -> Path:
        (found,) = self.place.folder.glob("*.bin")
        return found

    def open(self, **changes: object) -> NativeBackend:
        return open_native(self.checkpoint, threads=1, storage=Storage(packed=self.place))

    def build(self) -> _native.Model:
        return build_model(self.checkpoint, Storage(packed=self.place))


def logits(backend: NativeBackend) -> Floats:
    (tokens,) = token_rows([20], SHAPE.vocab_size)
    return all_logits(backend, tokens)


def fresh(folder: Path, type_name: str = "Q4_1", model: str = "a") -> Kept:
    told: list[str] = []
    checkpoint = random_checkpoint(SHAPE, type_name)
    place = PackedPlace(folder / "cache" / "packed", {"model": model}, told.append)
    return Kept(place, checkpoint, logits(open_native(checkpoint, threads=1)), told)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """A model whose packed weights lie in their file."""
    made = fresh(tmp_path)
    assert made.build().mapped_bytes() == 0
    return made


@pytest.mark.parametrize("type_name", ["Q4_1", "Q8_0", "F32", "F16"])
def test_the_second_start_maps_what_the_first_one_packed(tmp_path: Path, type_name: str) -> None:
    made = fresh(tmp_path, type_name)
    np.testing.assert_array_equal(logits(made.open()), made.logits)
    again = made.build()
    assert again.mapped_bytes() == again.weight_bytes() > 0
    np.testing.assert_array_equal(logits(made.open()), made.logits)
    for name in made.checkpoint.names():
        if len(made.checkpoint.shape(name)) == 2:
            np.testing.assert_array_equal(again.packed(name), build_model(made.checkpoint).packed(name))
    assert made.told == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows its mappings so")
def test_the_pages_are_shared_and_read_only(kept: Kept) -> None:
    model = kept.build()
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(kept.file.name)]
    assert {line.split()[1] for line in lines} == {"r--s"}
    tensor = kept.checkpoint.tensor("layers.0.attention.q.weight")
    with pytest.raises(_native.Error, match="cannot be changed"):
        model.pack(tensor.name, 0, tensor.shape[0], "Q4_1", tensor.data)


def swap(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "header only": lambda data: data[:4096],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "first weight": lambda data: swap(data, 4096),
    "last weight": lambda data: swap(data, len(data) - 1),
    "header": lambda data: swap(data, 30),
    "no header": lambda data: bytes(4096) + data[4096:],
    "a list for a header": lambda data: b"[1]".ljust(4096, b"\0") + data[4096:],
    "nothing but brackets": lambda data: b"[" * 4096 + data[4096:],
    "zeros": lambda data: bytes(len(data)),
    "hash of other weights": lambda data: data[:4096] + bytes(len(data) - 4096),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_is_packed_anew(kept: Kept, what: str) -> None:
    good = kept.file.read_bytes()
    kept.file.write_bytes(DAMAGE[what](good))
    assert kept.build().mapped_bytes() == 0
    assert kept.file.read_bytes() == good
    assert kept.build().mapped_bytes() > 0
    np.testing.assert_array_equal(logits(kept.open()), kept.logits)


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(kept: Kept) -> None:
    path = kept.file
    path.unlink()
    os.mkfifo(path)
    assert kept.build().mapped_bytes() == 0
    np.testing.assert_array_equal(logits(kept.open()), kept.logits)


def test_one_changed_byte_is_found_behind_an_old_time(kept: Kept) -> None:
    before = kept.file.stat()
    with kept.file.open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 4]))
    os.utime(kept.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kept.file.stat().st_mtime_ns == before.st_mtime_ns
    assert kept.build().mapped_bytes() == 0


def test_a_file_without_a_note_is_hashed_once_and_believed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    note = kept.file.with_suffix(".json")
    first = json.loads(note.read_text())
    for text in ("", "7", "{}", note.read_text().replace("[", "[1")):
        note.write_text(text)
        assert kept.build().mapped_bytes() > 0
        assert json.loads(note.read_text()) == {**first, "boot": None}
    monkeypatch.setattr(weight_cache, "_hash_rest", lambda file: pytest.fail("hashed again"))
    assert kept.build().mapped_bytes() > 0


def test_what_the_disk_may_not_have_got_is_hashed_after_the_next_start_of_the_machine(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    if weight_cache._boot() is None:
        pytest.skip("this system does not say when it was started")
    hashed: list[str] = []
    hash_rest = weight_cache._hash_rest

    def counted(file: BinaryIO) -> str:
        hashed.append(hash_rest(file))
        return hashed[-1]

    monkeypatch.setattr(weight_cache, "_hash_rest", counted)
    assert kept.build().mapped_bytes() > 0
    assert hashed == []
    monkeypatch.setattr(weight_cache, "_boot", lambda: "another start")
    assert kept.build().mapped_bytes() > 0
    assert kept.build().mapped_bytes() > 0
    assert len(hashed) == 1


def test_another_models_file_is_not_believed(kept: Kept, tmp_path: Path) -> None:
    other = fresh(tmp_path / "other", model="b")
    other.build()
    shutil.copy(kept.file, other.file)
    assert other.build().mapped_bytes() == 0
    assert other.build().mapped_bytes() > 0


def test_another_layout_or_shape_has_another_file(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "layout_version", _native.layout_version + 1)
    assert kept.build().mapped_bytes() == 0
    assert len(list(kept.place.folder.glob("*.bin"))) == 2
    kept._replace(checkpoint=random_checkpoint(SHAPE, "Q8_0")).build()
    assert len(list(kept.place.folder.glob("*.bin"))) == 3


def test_no_room_is_one_warning_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fresh(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1 << 20))
    np.testing.assert_array_equal(logits(made.open()), made.logits)
    (sentence,) = made.told
    assert "not kept" in sentence
    assert "0.0 GiB are free" in sentence
    assert list(made.place.folder.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fresh(tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(weight_cache, "_boot", lambda: None)
    np.testing.assert_array_equal(logits(made.open()), made.logits)
    (sentence,) = made.told
    assert "No space left" in sentence
    assert list(made.place.folder.iterdir()) == []


def test_a_large_file_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fresh(tmp_path)
    monkeypatch.setattr(weight_cache, "_LARGE_BYTES", 1)
    for _ in range(2):
        made.build()
        (sentence,) = made.told
        assert sentence == "Writing 0.0 GB of packed weights, for quick starts …"


def test_a_folder_that_cannot_be_is_one_warning(tmp_path: Path) -> None:
    made = fresh(tmp_path)
    (tmp_path / "cache").write_text("a file stands where the folder should")
    np.testing.assert_array_equal(logits(made.open()), made.logits)
    assert len(made.told) == 1


def test_files_outside_the_store_are_known_by_their_looks(tmp_path: Path) -> None:
    made = fresh(tmp_path)
    source = tmp_path / "model.gguf"
    source.write_bytes(b"1")
    made.checkpoint.files = (source,)
    unnamed = made._replace(place=PackedPlace(made.place.folder))
    unnamed.build()
    assert not made.place.folder.exists(), "it has only just changed"
    time.sleep(0.06)
    unnamed.build()
    assert unnamed.build().mapped_bytes() > 0
    assert list(json.loads(unnamed.file.with_suffix(".json").read_text())["source"]["files"]) == [str(source)]
    source.write_bytes(b"2")
    time.sleep(0.06)
    assert unnamed.build().mapped_bytes() == 0
    source.unlink()
    assert unnamed.build().mapped_bytes() == 0


def test_small_models_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    made = fresh(tmp_path)
    made.build()
    assert not made.place.folder.exists()


def test_caches_get_what_mapped_weights_leave(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system counts mapped pages as free."""
    weights = kept.build().weight_bytes()
    block = 64 * SHAPE.kv_bytes_per_token()
    monkeypatch.setattr("empu.engine.backends.native._free_memory", lambda: weights + 10 * block)
    backend = kept.open()
    backend.allocate(8 * 64)
    with pytest.raises(Exception, match="1 tokens needs"):
        backend.allocate(1)
