"""Cached weights of missing models and the least recently used ones beyond a limit are deleted."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from empu.store.store import Store
from empu.store.weight_cache_cleanup import cache_folder, cache_source, cached_weights, clean_up
from empu.system.file_stamp import FileStamp

SIZE = 1000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    cache_folder(store).mkdir(parents=True)
    return store


def add_weights(store: Store, key: str, source: object, age_s: float = 0.0) -> Path:
    path = cache_folder(store) / f"{key}.bin"
    path.write_bytes(bytes(SIZE))
    note = path.with_suffix(".json")
    note.write_text(json.dumps({"source": source, "look": []}))
    os.utime(note, (time.time() - age_s, time.time() - age_s))
    return path


def add_model(store: Store, name: str) -> dict[str, object]:
    (store.models_folder / name).mkdir(parents=True)
    (store.models_folder / name / "model.json").write_text("{}")
    return cache_source(name)


def names(store: Store) -> set[str]:
    return {path.name for path in cache_folder(store).iterdir()}


def test_weights_of_deleted_models_are_deleted(store: Store) -> None:
    add_weights(store, "a", add_model(store, "a"))
    add_weights(store, "b", add_model(store, "b"))
    assert clean_up(store) == 0
    (store.models_folder / "b" / "model.json").unlink()
    assert clean_up(store) == SIZE
    assert names(store) == {"a.bin", "a.json"}


def test_weights_of_changed_files_outside_the_store_are_deleted(store: Store, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"123")
    stamp = FileStamp.of(model).to_json()
    add_weights(store, "a", {"files": {str(model): stamp}})
    assert clean_up(store) == 0
    model.write_bytes(b"1234")
    assert clean_up(store) == SIZE
    assert names(store) == set()


def test_least_recently_used_weights_are_deleted_first(store: Store) -> None:
    source = add_model(store, "a")
    for age, key in ((10, "new"), (30, "old"), (20, "middle")):
        add_weights(store, key, source, age)
    assert [file.path.stem for file in cached_weights(store)] == ["new", "middle", "old"]
    assert clean_up(store, max_bytes=2 * SIZE) == SIZE
    assert names(store) == {"new.bin", "new.json", "middle.bin", "middle.json"}
    assert clean_up(store, max_bytes=SIZE // 2) == SIZE
    assert names(store) == {"new.bin", "new.json"}, "the last used file stays whatever its size"


def test_incomplete_files_are_deleted_after_a_while(store: Store) -> None:
    for name in (".b.bin.x7", "c.bin", "d.json", "e.json"):
        path = cache_folder(store) / name
        path.write_text("[1]" if name == "e.json" else "half written")
    assert clean_up(store) == 0
    assert len(names(store)) == 4
    for path in cache_folder(store).iterdir():
        os.utime(path, (1, 1))
    clean_up(store)
    assert names(store) == set()


def test_missing_folder_is_fine(tmp_path: Path) -> None:
    assert clean_up(Store(tmp_path / "nothing")) == 0


def test_weights_with_an_unknown_source_are_deleted(store: Store) -> None:
    add_weights(store, "a", {"other": 1})
    add_weights(store, "b", {"files": 3})
    assert clean_up(store) == 2 * SIZE
