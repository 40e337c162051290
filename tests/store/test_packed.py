"""Which packed weights may stay: those of models that are there, the last used ones, up to a limit."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from empu.store import weight_cache
from empu.store.store import Store

SIZE = 1000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    weight_cache.folder(made).mkdir(parents=True)
    return made


def put(store: Store, key: str, source: object, age_s: float = 0.0) -> Path:
    path = weight_cache.folder(store) / f"{key}.bin"
    path.write_bytes(bytes(SIZE))
    note = path.with_suffix(".json")
    note.write_text(json.dumps({"source": source, "look": []}))
    os.utime(note, (time.time() - age_s, time.time() - age_s))
    return path


def stored(store: Store, name: str) -> dict[str, object]:
    (store.models / name).mkdir(parents=True)
    (store.models / name / "model.json").write_text("{}")
    return weight_cache.source(name)


def names(store: Store) -> set[str]:
    return {path.name for path in weight_cache.folder(store).iterdir()}


def test_weights_go_with_their_model(store: Store) -> None:
    put(store, "a", stored(store, "a"))
    put(store, "b", stored(store, "b"))
    assert weight_cache.tidy(store) == 0
    (store.models / "b" / "model.json").unlink()
    assert weight_cache.tidy(store) == SIZE
    assert names(store) == {"a.bin", "a.json"}


def test_weights_of_files_outside_go_when_these_change(store: Store, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"123")
    stat = model.stat()
    look = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    put(store, "a", {"files": {str(model): look}})
    assert weight_cache.tidy(store) == 0
    model.write_bytes(b"1234")
    assert weight_cache.tidy(store) == SIZE
    assert names(store) == set()


def test_the_longest_unused_go_first(store: Store) -> None:
    source = stored(store, "a")
    for age, key in ((10, "new"), (30, "old"), (20, "middle")):
        put(store, key, source, age)
    assert [one.path.stem for one in weight_cache.kept(store)] == ["new", "middle", "old"]
    assert weight_cache.tidy(store, limit=2 * SIZE) == SIZE
    assert names(store) == {"new.bin", "new.json", "middle.bin", "middle.json"}
    assert weight_cache.tidy(store, limit=SIZE // 2) == SIZE
    assert names(store) == {"new.bin", "new.json"}, "the newest stays whatever its size"


def test_leftovers_go_after_a_while(store: Store) -> None:
    for name in (".b.bin.x7", "c.bin", "d.json", "e.json"):
        path = weight_cache.folder(store) / name
        path.write_text("[1]" if name == "e.json" else "half written")
    assert weight_cache.tidy(store) == 0
    assert len(names(store)) == 4
    for path in weight_cache.folder(store).iterdir():
        os.utime(path, (1, 1))
    weight_cache.tidy(store)
    assert names(store) == set()


def test_no_folder_is_fine(tmp_path: Path) -> None:
    assert weight_cache.tidy(Store(tmp_path / "nothing")) == 0


def test_a_note_that_names_no_source_is_an_orphan(store: Store) -> None:
    put(store, "a", {"other": 1})
    put(store, "b", {"files": 3})
    assert weight_cache.tidy(store) == 2 * SIZE
