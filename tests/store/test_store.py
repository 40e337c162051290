"""Names are permanent, models appear complete or not at all, and a changed byte is refused."""

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
from empu.store.names import check_name, name_from_text
from empu.store.staging import STAGING_DAYS
from empu.store.store import Store
from empu.system import durable
from tests.store.helpers import add_model, make_record, paths_below

FILES = {"model.gguf": b"weights" * 1000}
OTHER = {"model.gguf": b"changed" * 1000}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_home_is_empu_home_or_dot_empu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EMPU_HOME", raising=False)
    assert Store.of_user().home == tmp_path / ".empu"
    monkeypatch.setenv("EMPU_HOME", "~/else")
    assert Store.of_user().home == tmp_path / "else"
    monkeypatch.setenv("EMPU_HOME", "")
    assert Store.of_user().home == tmp_path / ".empu"


def test_queries_create_nothing(store: Store) -> None:
    assert store.list_models() == []
    assert store.find("anything") is None
    assert not store.home.exists()


def test_added_model_is_found_by_name_id_and_prefix(store: Store) -> None:
    added = add_model(store, "small", FILES)
    assert (added.is_new_model, added.is_new_name) == (True, True)
    identity = added.model.record.id
    for text in ("small", identity, identity[:8], f"sha256:{identity}", f"sha256:{identity[:12]}"):
        model = store.find(text)
        assert model is not None, text
        assert (model.name, model.record) == ("small", make_record(FILES))
    assert store.find(identity[:7]) is None
    assert added.model.path.read_bytes() == FILES["model.gguf"]
    assert (added.model.folder / "LICENSE").read_text() == "the text"


def test_added_model_leaves_only_the_documented_files(store: Store) -> None:
    identity = add_model(store, "small", FILES).model.record.id
    assert paths_below(store.home) == sorted(
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


def test_store_is_private_and_files_are_read_only(store: Store) -> None:
    model = add_model(store, "small", FILES).model
    assert store.home.stat().st_mode & 0o777 == 0o700
    assert model.path.stat().st_mode & 0o777 == 0o444


def test_adding_the_same_model_again_changes_nothing(store: Store) -> None:
    add_model(store, "small", FILES)
    before = paths_below(store.home)
    again = add_model(store, "small", FILES)
    assert (again.is_new_model, again.is_new_name) == (False, False)
    assert paths_below(store.home) == before


def test_model_may_have_two_names(store: Store) -> None:
    add_model(store, "small", FILES)
    again = add_model(store, "tiny", FILES)
    assert (again.is_new_model, again.is_new_name) == (False, True)
    assert [model.name for model in store.list_models()] == ["small", "tiny"]
    assert len({model.record.id for model in store.list_models()}) == 1


def test_name_of_another_model_is_refused(store: Store) -> None:
    add_model(store, "small", FILES)
    before = paths_below(store.home)
    with pytest.raises(StoreError, match=r"'small' belongs to another model already .* choose another one with --name"):
        add_model(store, "small", OTHER)
    assert paths_below(store.home) == before
    model = store.find("small")
    assert model is not None
    assert model.record.id == make_record(FILES).id


@pytest.mark.parametrize(
    "name", ["", "A", ".hidden", "-x", "a/b", "../up", "a b", "é", "a" * 65, "names\n", "x\0", "CON:"]
)
def test_invalid_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        check_name(name)
    assert store.find_by_name(name) is None
    with pytest.raises(UsageError, match="cannot be a model's name"):
        add_model(store, name, FILES)
    assert store.list_models() == []


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
def test_names_derived_from_files_are_valid(text: str, name: str) -> None:
    assert name_from_text(text) == name
    check_name(name)


def test_resolve_prefers_names_and_accepts_paths(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_model(store, "small", FILES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "folder").mkdir()
    assert not isinstance(store.resolve("small"), Path)
    assert store.resolve("./small") == Path("small")
    assert store.resolve("folder") == Path("folder")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default", "empu pull default"),
        ("hf:org/name", "fetch it first with: empu pull hf:org/name"),
        ("./nothing", "does not exist"),
        ("nothing", "No model in the store is called 'nothing'.*the store is empty"),
        ("", "No model in the store is called ''"),
    ],
)
def test_resolve_explains_what_is_missing(store: Store, text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.resolve(text)


def test_ambiguous_id_prefix_is_refused(store: Store) -> None:
    identity = add_model(store, "small", FILES).model.record.id
    twin = store.models_folder / (identity[:10] + "0" * 54)
    shutil.copytree(store.models_folder / identity, twin)
    with pytest.raises(UsageError, match="2 models in the store have ids that start"):
        store.find(identity[:8])


class RecordingProgress:
    """Progress that records what was started."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def say(self, sentence: str) -> None:
        pass

    def start(self, what: str, total: int | None) -> None:
        self.started.append(what)

    def advance(self, count: int) -> None:
        pass

    def finish(self) -> None:
        pass


def verified_files(store: Store, name: str = "small") -> list[str]:
    model = store.find(name)
    assert model is not None
    progress = RecordingProgress()
    store.verify(model, progress)
    return progress.started


def test_files_are_hashed_once_and_then_compared_by_stamp(store: Store) -> None:
    add_model(store, "small", FILES)
    time.sleep(0.06)  # the stamp of a file that changed just now is not trusted
    assert verified_files(store) == ["checking model.gguf"]
    assert verified_files(store) == []
    path = store.resolve("small").path  # type: ignore[union-attr]
    os.utime(path)
    time.sleep(0.06)
    assert verified_files(store) == ["checking model.gguf"]
    assert verified_files(store) == []


def test_changed_byte_is_found_even_with_the_old_modification_time(store: Store) -> None:
    model = add_model(store, "small", FILES).model
    time.sleep(0.06)
    store.verify(model)
    before = model.path.stat()
    data = bytearray(FILES["model.gguf"])
    data[3456] ^= 1
    model.path.chmod(0o644)
    model.path.write_bytes(bytes(data))
    os.utime(model.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert model.path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(StoreError, match=r"model\.gguf changed since it was recorded.*empu pull somewhere"):
        store.verify(model)


def test_shorter_and_missing_files_are_found(store: Store) -> None:
    model = add_model(store, "small", FILES).model
    model.path.chmod(0o644)
    model.path.write_bytes(b"short")
    with pytest.raises(StoreError, match="has 5 bytes, but 7,000 were recorded"):
        store.verify(model)
    model.path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        store.verify(model)


def test_damaged_stamps_only_cause_a_full_check(store: Store) -> None:
    model = add_model(store, "small", FILES).model
    time.sleep(0.06)
    for text in ("{", "[]", '{"model.gguf": [1, 2, 3, 4]}', '{"model.gguf": "yes"}'):
        (model.folder / "verified.json").write_text(text)
        assert verified_files(store) == ["checking model.gguf"], text


def test_replace_restores_damaged_files(store: Store) -> None:
    model = add_model(store, "small", FILES).model
    model.path.chmod(0o644)
    model.path.write_bytes(OTHER["model.gguf"])
    again = add_model(store, "small", FILES, replace=True)
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
def test_damaged_record_raises_store_error(store: Store, damage: object) -> None:
    model = add_model(store, "small", FILES).model
    path = model.folder / "model.json"
    assert callable(damage)
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)
    with pytest.raises(StoreError, match=r"model\.json is damaged"):
        store.find("small")


def test_damaged_name_raises_store_error(store: Store) -> None:
    add_model(store, "small", FILES)
    (store.names_folder / "small").write_text("nonsense")
    with pytest.raises(StoreError, match="must hold the id of a model"):
        store.find("small")


def test_written_record_holds_its_id() -> None:
    record = make_record({"a": b"1", "b/c": b"2"})
    assert json.loads(model_record.write(record))["id"] == record.id


def test_interrupted_pulls_are_swept_after_a_week(store: Store) -> None:
    add_model(store, "small", FILES)
    old, new = store.tmp_folder / "old", store.tmp_folder / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "partial").write_bytes(b"x")
    past = time.time() - (STAGING_DAYS + 1) * 86_400
    resumed = store.tmp_folder / "resumed"  # started long ago and written to since
    (resumed / "state").mkdir(parents=True)
    for path in (old / "partial", old, resumed):
        os.utime(path, (past, past))
    add_model(store, "other", OTHER)
    assert not old.exists()
    assert new.exists()
    assert resumed.exists()


def test_resuming_an_old_pull_does_not_sweep_it(store: Store) -> None:
    with pytest.raises(RuntimeError):
        _fail(store, keep=True)
    past = time.time() - (STAGING_DAYS + 1) * 86_400
    for path in (store.tmp_folder / "broken" / "partial", store.tmp_folder / "broken"):
        os.utime(path, (past, past))
    with store.staging("broken", keep=True) as folder:
        assert (folder / "partial").read_bytes() == b"x"


def test_staging_folder_is_locked(store: Store) -> None:
    busy = pytest.raises(StoreError, match="Another empu process is fetching the same model")
    with store.staging("same"), busy, store.staging("same"):
        pass
    with store.staging("same"), store.staging("another"):
        pass


def test_failed_pull_leaves_nothing_unless_it_is_resumable(store: Store) -> None:
    for keep in (False, True):
        with pytest.raises(RuntimeError):
            _fail(store, keep)
        assert (store.tmp_folder / "broken" / "partial").exists() == keep


def _fail(store: Store, keep: bool) -> None:
    with store.staging("broken", keep=keep) as folder:
        (folder / "partial").write_bytes(b"x")
        raise RuntimeError


@pytest.mark.parametrize("step", ["fsync_tree", "fsync_folder", "create_exclusively"])
def test_crash_at_any_step_leaves_a_complete_model_or_none(store: Store, step: str) -> None:
    """The process dies inside one step of an addition; afterwards the same addition succeeds."""
    code = (
        "import os, sys, pathlib; from empu.system import durable; from empu.store.store import Store\n"
        "from tests.store.helpers import add_model\n"
        f"durable.{step} = lambda *a, **k: os._exit(9)\n"
        "add_model(Store(pathlib.Path(sys.argv[1])), 'small', {'model.gguf': b'weights' * 1000})\n"
    )
    root = Path(__file__).resolve().parents[2]
    completed = subprocess.run([sys.executable, "-c", code, str(store.home)], cwd=root, check=False)
    assert completed.returncode == 9
    for model in store.list_models():
        store.verify(model)
    assert store.names() == {}
    again = add_model(store, "small", FILES)
    store.verify(again.model)
    assert store.names() == {"small": again.model.record.id}
    assert paths_below(store.tmp_folder) == []


def test_read_only_store_raises_store_error(store: Store) -> None:
    store.home.mkdir()
    store.home.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # root may write everywhere, so become another user
        os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match="give yourself the right to write there"):
            add_model(store, "small", FILES)
    finally:
        os.seteuid(user)


def test_impossible_store_folder_raises_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        add_model(Store(tmp_path / "file" / "home"), "small", FILES)


def test_files_in_an_unwritable_folder_are_checked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model = add_model(store, "small", FILES).model
    time.sleep(0.06)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    store.verify(model)
    assert not (model.folder / "verified.json").exists()


def test_addition_calls_the_durable_functions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash test above replaces these functions, so an addition must call them."""
    called: list[str] = []
    for step in ("fsync_tree", "fsync_folder", "create_exclusively"):
        real = getattr(durable, step)

        def spy(*args: object, _real: object = real, _step: str = step, **named: object) -> object:
            called.append(_step)
            assert callable(_real)
            return _real(*args, **named)

        monkeypatch.setattr(durable, step, spy)
    add_model(store, "small", FILES)
    assert {"fsync_tree", "fsync_folder", "create_exclusively"} <= set(called)


def test_stopped_run_is_never_swept(store: Store) -> None:
    past = time.time() - 10 * STAGING_DAYS * 86_400
    for key in ("tune-0123", "hub-0123"):
        (store.tmp_folder / key).mkdir(parents=True)
        os.utime(store.tmp_folder / key, (past, past))
    with store.staging("another"):
        pass
    assert [folder.name for folder in store.tmp_folder.iterdir()] == ["tune-0123"]
