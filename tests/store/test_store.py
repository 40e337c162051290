"""The store keeps its promises: names never change meaning, nothing appears half, a changed byte is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from empu.errors import StoreError, UsageError
from empu.store import model_record
from empu.store.store import LEFTOVER_DAYS, Store, check_name, name_from
from empu.system import durable
from tests.store.making import everything_below, made_record, put

FILES = {"model.gguf": b"weights" * 1000}
OTHER = {"model.gguf": b"changed" * 1000}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_home_is_empu_home_or_a_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EMPU_HOME", raising=False)
    assert Store.of_user().home == tmp_path / ".empu"
    monkeypatch.setenv("EMPU_HOME", "~/else")
    assert Store.of_user().home == tmp_path / "else"
    monkeypatch.setenv("EMPU_HOME", "")
    assert Store.of_user().home == tmp_path / ".empu"


def test_asking_an_absent_store_creates_nothing(store: Store) -> None:
    assert store.all() == []
    assert store.find("anything") is None
    assert not store.home.exists()


def test_an_added_model_is_found_by_name_id_and_prefix(store: Store) -> None:
    added = put(store, "small", FILES)
    assert (added.new_model, added.new_name) == (True, True)
    identity = added.model.record.id
    for text in ("small", identity, identity[:8], f"sha256:{identity}", f"sha256:{identity[:12]}"):
        found = store.find(text)
        assert found is not None, text
        assert (found.name, found.record) == ("small", made_record(FILES))
    assert store.find(identity[:7]) is None
    assert added.model.path.read_bytes() == FILES["model.gguf"]
    assert (added.model.folder / "LICENSE").read_text() == "the text"


def test_a_pull_leaves_only_what_the_store_describes(store: Store) -> None:
    identity = put(store, "small", FILES).model.record.id
    assert everything_below(store.home) == sorted(
        [
            "models",
            f"models/{identity}",
            f"models/{identity}/LICENSE",
            f"models/{identity}/files",
            f"models/{identity}/files/model.gguf",
            f"models/{identity}/model.json",
            "models/names",
            "models/names/small",
            "tmp",
        ]
    )


def test_the_store_is_private_and_files_are_read_only(store: Store) -> None:
    model = put(store, "small", FILES).model
    assert store.home.stat().st_mode & 0o777 == 0o700
    assert model.path.stat().st_mode & 0o777 == 0o444


def test_the_same_again_changes_nothing(store: Store) -> None:
    put(store, "small", FILES)
    before = everything_below(store.home)
    again = put(store, "small", FILES)
    assert (again.new_model, again.new_name) == (False, False)
    assert everything_below(store.home) == before


def test_one_model_may_have_two_names(store: Store) -> None:
    put(store, "small", FILES)
    again = put(store, "tiny", FILES)
    assert (again.new_model, again.new_name) == (False, True)
    assert [model.name for model in store.all()] == ["small", "tiny"]
    assert len({model.record.id for model in store.all()}) == 1


def test_a_name_never_changes_its_meaning(store: Store) -> None:
    put(store, "small", FILES)
    before = everything_below(store.home)
    with pytest.raises(StoreError, match=r"'small' already means another model .* choose another one with --name"):
        put(store, "small", OTHER)
    assert everything_below(store.home) == before
    found = store.find("small")
    assert found is not None
    assert found.record.id == made_record(FILES).id


@pytest.mark.parametrize(
    "name", ["", "A", ".hidden", "-x", "a/b", "../up", "a b", "é", "a" * 65, "names\n", "x\0", "CON:"]
)
def test_bad_names_are_refused_everywhere(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        check_name(name)
    assert store.named(name) is None
    with pytest.raises(UsageError, match="cannot be a model's name"):
        put(store, name, FILES)
    assert store.all() == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Llama-3.2-1B", "llama-3.2-1b"),
        ("my model (final).v2", "my-model-final-.v2"),
        ("...", "model"),
        ("../../etc", "etc"),
        ("x" * 100, "x" * 64),
        ("日本", "model"),
    ],
)
def test_names_made_from_files_are_valid(text: str, name: str) -> None:
    assert name_from(text) == name
    check_name(name)


def test_resolving_prefers_names_and_takes_paths(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "small", FILES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "folder").mkdir()
    assert not isinstance(store.resolve("small"), Path)
    assert store.resolve("./small") == Path("small")
    assert store.resolve("folder") == Path("folder")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("default", "empu pull default"),
        ("hf:org/name", "fetch it first with: empu pull hf:org/name"),
        ("./nothing", "does not exist"),
        ("nothing", "No model in the store is called 'nothing'.*it is empty"),
        ("", "No model in the store is called ''"),
    ],
)
def test_what_is_not_there_is_explained_and_not_fetched(store: Store, text: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        store.resolve(text)


def test_an_ambiguous_id_is_refused(store: Store) -> None:
    identity = put(store, "small", FILES).model.record.id
    twin = store.models / (identity[:10] + "0" * 54)
    shutil.copytree(store.models / identity, twin)
    with pytest.raises(UsageError, match="2 models in the store have ids that begin"):
        store.find(identity[:8])


class Counting:
    """A progress that remembers what was hashed."""

    def __init__(self) -> None:
        self.began: list[str] = []

    def say(self, sentence: str) -> None:
        pass

    def start(self, what: str, total: int | None) -> None:
        self.began.append(what)

    def advance(self, count: int) -> None:
        pass

    def finish(self) -> None:
        pass


def hashed(store: Store, name: str = "small") -> list[str]:
    model = store.find(name)
    assert model is not None
    counting = Counting()
    store.verify(model, counting)
    return counting.began


def test_files_are_hashed_once_and_then_known_by_their_looks(store: Store) -> None:
    put(store, "small", FILES)
    time.sleep(0.06)  # a file that changed just now is not trusted by its looks
    assert hashed(store) == ["checking model.gguf"]
    assert hashed(store) == []
    path = store.resolve("small").path  # type: ignore[union-attr]
    os.utime(path)
    time.sleep(0.06)
    assert hashed(store) == ["checking model.gguf"]
    assert hashed(store) == []


def test_one_changed_byte_is_refused_even_with_the_old_times(store: Store) -> None:
    model = put(store, "small", FILES).model
    time.sleep(0.06)
    store.verify(model)
    times = model.path.stat()
    data = bytearray(FILES["model.gguf"])
    data[3456] ^= 1
    model.path.chmod(0o644)
    model.path.write_bytes(bytes(data))
    os.utime(model.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert model.path.stat().st_mtime_ns == times.st_mtime_ns
    with pytest.raises(StoreError, match=r"model\.gguf changed since it was recorded.*empu pull somewhere"):
        store.verify(model)


def test_a_shorter_and_a_missing_file_are_refused(store: Store) -> None:
    model = put(store, "small", FILES).model
    model.path.chmod(0o644)
    model.path.write_bytes(b"short")
    with pytest.raises(StoreError, match="has 5 bytes and 7,000 were recorded"):
        store.verify(model)
    model.path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        store.verify(model)


def test_a_damaged_note_of_checks_only_costs_a_full_check(store: Store) -> None:
    model = put(store, "small", FILES).model
    time.sleep(0.06)
    for text in ("{", "[]", '{"model.gguf": [1, 2, 3, 4]}', '{"model.gguf": "yes"}'):
        (model.folder / "verified.json").write_text(text)
        assert hashed(store) == ["checking model.gguf"], text


def test_replacing_damaged_files_brings_the_right_ones_back(store: Store) -> None:
    model = put(store, "small", FILES).model
    model.path.chmod(0o644)
    model.path.write_bytes(OTHER["model.gguf"])
    again = put(store, "small", FILES, replace=True)
    store.verify(again.model)
    assert again.model.path.read_bytes() == FILES["model.gguf"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"size": 7000', '"size": 7001'),
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: "[]",
        lambda text: text.replace('"licence"', '"license"'),
    ],
)
def test_a_damaged_record_is_a_sentence(store: Store, damage: object) -> None:
    model = put(store, "small", FILES).model
    path = model.folder / "model.json"
    assert callable(damage)
    changed = damage(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(StoreError, match=r"model\.json is damaged"):
        store.find("small")


def test_a_damaged_name_is_a_sentence(store: Store) -> None:
    put(store, "small", FILES)
    (store.names_folder / "small").write_text("nonsense")
    with pytest.raises(StoreError, match="should hold a model's id"):
        store.find("small")


def test_records_survive_the_round_trip() -> None:
    record = made_record({"a": b"1", "b/c": b"2"})
    assert json.loads(model_record.write(record))["id"] == record.id


def test_leftovers_are_swept_after_a_week_and_kept_before(store: Store) -> None:
    put(store, "small", FILES)
    old, new = store.tmp / "old", store.tmp / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "partial").write_bytes(b"x")
    past = time.time() - (LEFTOVER_DAYS + 1) * 86_400
    long = store.tmp / "long"  # begun long ago, and written to since
    (long / "state").mkdir(parents=True)
    for path in (old / "partial", old, long):
        os.utime(path, (past, past))
    put(store, "other", OTHER)
    assert not old.exists()
    assert new.exists()
    assert long.exists()


def test_what_was_left_long_ago_is_still_there_for_the_one_who_goes_on(store: Store) -> None:
    with pytest.raises(RuntimeError):
        _break(store, keep=True)
    past = time.time() - (LEFTOVER_DAYS + 1) * 86_400
    for path in (store.tmp / "broken" / "partial", store.tmp / "broken"):
        os.utime(path, (past, past))
    with store.staging("broken", keep=True) as folder:
        assert (folder / "partial").read_bytes() == b"x"


def test_two_pulls_of_the_same_thing_do_not_meet(store: Store) -> None:
    busy = pytest.raises(StoreError, match="Another empu process is fetching the same model")
    with store.staging("same"), busy, store.staging("same"):
        pass
    with store.staging("same"), store.staging("another"):
        pass


def test_a_failed_pull_leaves_nothing_unless_it_is_to_be_resumed(store: Store) -> None:
    for keep in (False, True):
        with pytest.raises(RuntimeError):
            _break(store, keep)
        assert (store.tmp / "broken" / "partial").exists() == keep


def _break(store: Store, keep: bool) -> None:
    with store.staging("broken", keep=keep) as folder:
        (folder / "partial").write_bytes(b"x")
        raise RuntimeError


@pytest.mark.parametrize("step", ["flush_tree", "flush_folder", "create_once"])
def test_a_crash_at_any_step_leaves_a_whole_model_or_none(store: Store, step: str) -> None:
    """The process is killed inside each step of an addition; afterwards the same pull succeeds and is verified."""
    code = (
        "import os, sys, pathlib; from empu import durable; from empu.store.store import Store\n"
        "from tests.store.making import put\n"
        f"durable.{step} = lambda *a, **k: os._exit(9)\n"
        "put(Store(pathlib.Path(sys.argv[1])), 'small', {'model.gguf': b'weights' * 1000})\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(store.home)], cwd=root, check=False)
    assert done.returncode == 9
    for model in store.all():
        store.verify(model)
    assert store.names() == {}
    again = put(store, "small", FILES)
    store.verify(again.model)
    assert store.names() == {"small": again.model.record.id}
    assert everything_below(store.tmp) == []


def test_a_read_only_store_is_a_sentence(store: Store) -> None:
    store.home.mkdir()
    store.home.chmod(0o500)
    me = os.geteuid()
    if me == 0:  # root may write everywhere; be nobody for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match="give yourself the right to write there"):
            put(store, "small", FILES)
    finally:
        os.seteuid(me)


def test_a_store_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        put(Store(tmp_path / "file" / "home"), "small", FILES)


def test_an_unwritable_model_folder_is_still_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model = put(store, "small", FILES).model
    time.sleep(0.06)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    store.verify(model)
    assert not (model.folder / "verified.json").exists()


def test_durable_steps_are_really_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash test above replaces these functions; they must be the ones that an addition calls."""
    called: list[str] = []
    for step in ("flush_tree", "flush_folder", "create_once"):
        real = getattr(durable, step)

        def spy(*args: object, _real: object = real, _step: str = step, **named: object) -> object:
            called.append(_step)
            assert callable(_real)
            return _real(*args, **named)

        monkeypatch.setattr(durable, step, spy)
    put(store, "small", FILES)
    assert {"flush_tree", "flush_folder", "create_once"} <= set(called)


def test_a_run_that_was_stopped_is_never_swept(store: Store) -> None:
    past = time.time() - 10 * LEFTOVER_DAYS * 86_400
    for key in ("tune-0123", "hub-0123"):
        (store.tmp / key).mkdir(parents=True)
        os.utime(store.tmp / key, (past, past))
    with store.staging("another"):
        pass
    assert [folder.name for folder in store.tmp.iterdir()] == ["tune-0123"]
