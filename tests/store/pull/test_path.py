"""Pulls from local files: copied or linked, described correctly, and refused without a trace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from empu.checkpoint import open_checkpoint
from empu.checkpoint.formats.safetensors import read_safetensors
from empu.config import preset
from empu.errors import CheckpointError, EmpuError, StoreError, UsageError
from empu.store.pull.path import describe_path
from empu.store.pull.pull import PullSpec, pull
from empu.store.store import Store
from tests.store.helpers import paths_below
from tests.store.tiny_models import tiny_folder, tiny_gguf


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_gguf_file_is_copied_and_described(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "Tiny.Model.gguf"
    data = tiny_gguf(path)
    added = pull(store, PullSpec(str(path)))
    record = added.model.record
    assert added.model.name == "tiny.model"
    assert added.model.path.read_bytes() == data
    assert (record.format, record.architecture, record.title) == ("gguf", "llama", "Tiny")
    assert record.licence.id == "MIT"
    assert record.licence.note
    assert record.tensor_types == {"F32": 21}
    assert record.parameters == preset("tiny").parameter_count()
    assert record.disclosure.in_files == "not disclosed"
    assert (record.source.kind, record.source.address) == ("path", str(path))
    store.verify(added.model)


def test_folder_is_copied_with_its_licence(store: Store, tmp_path: Path) -> None:
    files = tiny_folder(tmp_path / "tiny", shards=2)
    (tmp_path / "tiny" / "LICENSE").write_text("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT")
    (tmp_path / "tiny" / "notes.txt").write_text("private")
    added = pull(store, PullSpec(str(tmp_path / "tiny"), name="small"))
    assert {file.name for file in added.model.record.files} == {*files, "LICENSE"}
    for name, data in files.items():
        assert (added.model.path / name).read_bytes() == data
    assert added.model.record.licence.id == "llama3.2"
    assert added.model.record.licence.according_to == "the licence text among its files"
    assert (added.model.folder / "LICENSE").read_text() == "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT"
    assert not list(store.home.rglob("notes.txt"))


def test_missing_licence_stays_unstated(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf", licence=None)
    licence = pull(store, PullSpec(str(tmp_path / "tiny.gguf"))).model.record.licence
    assert (licence.id, licence.text_file, licence.according_to) == (None, None, None)


def test_symbolic_links_are_followed_and_copied(store: Store, tmp_path: Path) -> None:
    files = tiny_folder(tmp_path / "blobs")
    (tmp_path / "tiny").mkdir()
    for name in files:
        (tmp_path / "tiny" / name).symlink_to(tmp_path / "blobs" / name)
    model = pull(store, PullSpec(str(tmp_path / "tiny"))).model
    assert not (model.path / "model.safetensors").is_symlink()
    store.verify(model)


def test_linked_model_stays_in_place_and_is_checked(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    data = tiny_gguf(path)
    model = pull(store, PullSpec(str(path), link=True)).model
    assert model.path == path
    assert not list(store.models_folder.rglob("*.gguf"))
    store.verify(model)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreError, match="restore the recorded file, or pull the changed one under another name"):
        store.verify(model)


def test_link_requires_local_files(store: Store) -> None:
    for source in ("default", "hf:org/name"):
        with pytest.raises(UsageError, match="--link is for files on this machine"):
            pull(store, PullSpec(source, link=True))


def test_pulling_the_same_model_again_copies_nothing(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    pull(store, PullSpec(str(tmp_path / "tiny.gguf")))
    before = paths_below(store.home)
    again = pull(store, PullSpec(str(tmp_path / "tiny.gguf")))
    assert (again.is_new_model, again.is_new_name) == (False, False)
    other = pull(store, PullSpec(str(tmp_path / "tiny.gguf"), name="second"))
    assert (other.is_new_model, other.is_new_name) == (False, True)
    assert set(paths_below(store.home)) - set(before) <= {
        "models/names/second",
        f"models/{other.model.record.id}/verified.json",
    }


def test_taken_name_is_refused_without_a_trace(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    tiny_gguf(tmp_path / "other" / "tiny.gguf", seed=1)
    pull(store, PullSpec(str(tmp_path / "tiny.gguf")))
    before = paths_below(store.home)
    with pytest.raises(StoreError, match="'tiny' belongs to another model already"):
        pull(store, PullSpec(str(tmp_path / "other" / "tiny.gguf")))
    assert paths_below(store.home) == before


@pytest.mark.parametrize("name", ["../x", "Big", "a b", ""])
def test_invalid_names_are_refused_first(store: Store, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        pull(store, PullSpec(str(tmp_path / "nothing"), name=name))


def test_invalid_models_are_refused_without_a_trace(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.gguf").write_text("not a model")
    tiny_gguf(tmp_path / "cut.gguf")
    truncated = tmp_path / "cut.gguf"
    truncated.write_bytes(truncated.read_bytes()[:-1000])
    for source in ("empty", "text.gguf", "cut.gguf"):
        with pytest.raises(CheckpointError):
            pull(store, PullSpec(str(tmp_path / source)))
    with pytest.raises(UsageError, match="does not exist; a source is 'default'"):
        pull(store, PullSpec(str(tmp_path / "absent")))
    assert not store.home.exists()


def test_full_disk_leaves_the_store_unchanged(store: Store, tmp_path: Path) -> None:
    """A file-size limit simulates the full disk: the kernel refuses the same write."""
    tiny_gguf(tmp_path / "tiny.gguf")
    code = (
        "import pathlib, resource, sys\n"
        "from empu.errors import StoreError\n"
        "from empu.store.pull.pull import PullSpec, pull\n"
        "from empu.store.store import Store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: pull(Store(pathlib.Path(sys.argv[1])), PullSpec(sys.argv[2]))\n"
        "except StoreError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(store.home), str(tmp_path / "tiny.gguf")]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "There is no room left while writing" in completed.stdout
    assert "nothing was added" in completed.stdout
    assert store.list_models() == []
    assert paths_below(store.tmp_folder) == []


def test_path_can_be_described_without_a_store(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    record = describe_path(tmp_path / "tiny.gguf")
    assert record.id == pull(Store(tmp_path / "home"), PullSpec(str(tmp_path / "tiny.gguf"))).model.record.id
    assert paths_below(tmp_path)[0] == "home"


def test_every_refusal_is_one_line(store: Store, tmp_path: Path) -> None:
    for source in (str(tmp_path / "absent"), "hf:x", "hf:a/b/c.bin"):
        with pytest.raises(EmpuError) as caught:
            pull(store, PullSpec(source))
        assert "\n" not in str(caught.value)


def test_pulled_models_open_from_the_store(store: Store, tmp_path: Path) -> None:
    """One shard with an index, one file of a folder, and companion files in subfolders."""
    folder = tmp_path / "one"
    tiny_folder(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    (folder / "task.json").write_text("{}")
    single_file = pull(store, PullSpec(str(folder / "model.safetensors"), "inside")).model
    names = {file.name for file in single_file.record.files}
    assert {"task.json", "additional_chat_templates/tool_use.jinja"} <= names
    weights = folder / "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(weights)
    tensors = dict.fromkeys(read_safetensors(weights).entries, weights.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": tensors}))
    sharded = pull(store, PullSpec(str(folder), "sharded")).model
    for model in (single_file, sharded):
        with open_checkpoint(model.path) as checkpoint:
            assert checkpoint.config == preset("tiny")


@pytest.mark.parametrize("damage", ["{", None])
def test_damaged_record_is_replaced_and_blocks_no_other_pull(store: Store, tmp_path: Path, damage: str | None) -> None:
    for seed, name in enumerate(("broken", "other")):
        tiny_folder(tmp_path / name, seed=seed)
    first = pull(store, PullSpec(str(tmp_path / "broken"))).model
    if damage is None:
        shutil.rmtree(first.folder)
    else:
        (first.folder / "model.json").chmod(0o600)
        (first.folder / "model.json").write_text(damage)
    assert pull(store, PullSpec(str(tmp_path / "other"))).is_new_model
    messages: list[str] = []
    assert [model.name for model in store.list_models(messages.append)] == ["other"]
    assert len(messages) == 1
    assert pull(store, PullSpec(str(tmp_path / "broken"))).is_new_model
    assert [model.name for model in store.list_models()] == ["broken", "other"]
    store.verify(store.list_models()[0])
