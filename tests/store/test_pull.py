"""Pulling from this machine: each format, copied or linked, described truthfully, and refused without a trace."""

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
from empu.store.pull.pull import Request, describe_path, pull
from empu.store.store import Store
from tests.store.making import everything_below
from tests.store.tiny_models import tiny_folder, tiny_gguf


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_a_gguf_file_is_copied_and_described(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "Tiny.Model.gguf"
    data = tiny_gguf(path)
    added = pull(store, Request(str(path)))
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


def test_a_folder_is_copied_with_its_licence_beside_it(store: Store, tmp_path: Path) -> None:
    files = tiny_folder(tmp_path / "tiny", shards=2)
    (tmp_path / "tiny" / "LICENSE").write_text("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT")
    (tmp_path / "tiny" / "notes.txt").write_text("private")
    added = pull(store, Request(str(tmp_path / "tiny"), name="small"))
    assert {f.name for f in added.model.record.files} == {*files, "LICENSE"}
    for name, data in files.items():
        assert (added.model.path / name).read_bytes() == data
    assert added.model.record.licence.id == "llama3.2"
    assert added.model.record.licence.according_to == "the licence text among its files"
    assert (added.model.folder / "LICENSE").read_text() == "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT"
    assert not list(store.home.rglob("notes.txt"))


def test_an_unstated_licence_stays_unstated(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf", licence=None)
    licence = pull(store, Request(str(tmp_path / "tiny.gguf"))).model.record.licence
    assert (licence.id, licence.text_file, licence.according_to) == (None, None, None)


def test_files_reached_through_links_are_copied(store: Store, tmp_path: Path) -> None:
    files = tiny_folder(tmp_path / "blobs")
    (tmp_path / "tiny").mkdir()
    for name in files:
        (tmp_path / "tiny" / name).symlink_to(tmp_path / "blobs" / name)
    model = pull(store, Request(str(tmp_path / "tiny"))).model
    assert not (model.path / "model.safetensors").is_symlink()
    store.verify(model)


def test_a_linked_model_stays_where_it_is_and_is_checked(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    data = tiny_gguf(path)
    model = pull(store, Request(str(path), link=True)).model
    assert model.path == path
    assert not list(store.models.rglob("*.gguf"))
    store.verify(model)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreError, match="put the recorded file back, or pull the changed one under another name"):
        store.verify(model)


def test_link_is_only_for_files_that_are_here(store: Store) -> None:
    for source in ("default", "hf:org/name"):
        with pytest.raises(UsageError, match="--link is for files that lie on this machine"):
            pull(store, Request(source, link=True))


def test_the_same_again_copies_nothing(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    pull(store, Request(str(tmp_path / "tiny.gguf")))
    before = everything_below(store.home)
    again = pull(store, Request(str(tmp_path / "tiny.gguf")))
    assert (again.new_model, again.new_name) == (False, False)
    other = pull(store, Request(str(tmp_path / "tiny.gguf"), name="second"))
    assert (other.new_model, other.new_name) == (False, True)
    assert set(everything_below(store.home)) - set(before) <= {
        "models/names/second",
        f"models/{other.model.record.id}/verified.json",
    }


def test_a_taken_name_is_refused_without_a_trace(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    tiny_gguf(tmp_path / "other" / "tiny.gguf", seed=1)
    pull(store, Request(str(tmp_path / "tiny.gguf")))
    before = everything_below(store.home)
    with pytest.raises(StoreError, match="'tiny' already means another model"):
        pull(store, Request(str(tmp_path / "other" / "tiny.gguf")))
    assert everything_below(store.home) == before


@pytest.mark.parametrize("name", ["../x", "Big", "a b", ""])
def test_bad_names_are_refused_first(store: Store, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        pull(store, Request(str(tmp_path / "nothing"), name=name))


def test_what_is_no_model_is_refused_without_a_trace(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.gguf").write_text("not a model")
    tiny_gguf(tmp_path / "cut.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(cut.read_bytes()[:-1000])
    for source in ("empty", "text.gguf", "cut.gguf"):
        with pytest.raises(CheckpointError):
            pull(store, Request(str(tmp_path / source)))
    with pytest.raises(UsageError, match="does not exist; a source is 'default'"):
        pull(store, Request(str(tmp_path / "absent")))
    assert not store.home.exists()


def test_a_full_disk_leaves_the_store_as_it_was(store: Store, tmp_path: Path) -> None:
    """A file-size limit stands in for the full disk: the kernel refuses the write in the same place."""
    tiny_gguf(tmp_path / "tiny.gguf")
    code = (
        "import pathlib, resource, sys\n"
        "from empu.errors import StoreError\n"
        "from empu.store.pull.pull import Request, pull\n"
        "from empu.store.store import Store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: pull(Store(pathlib.Path(sys.argv[1])), Request(sys.argv[2]))\n"
        "except StoreError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(store.home), str(tmp_path / "tiny.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "There is no room left while writing" in done.stdout
    assert "nothing was added" in done.stdout
    assert store.all() == []
    assert everything_below(store.tmp) == []


def test_a_path_can_be_described_without_a_store(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    record = describe_path(tmp_path / "tiny.gguf")
    assert record.id == pull(Store(tmp_path / "home"), Request(str(tmp_path / "tiny.gguf"))).model.record.id
    assert everything_below(tmp_path)[0] == "home"


def test_every_refusal_is_one_line(store: Store, tmp_path: Path) -> None:
    for source in (str(tmp_path / "absent"), "hf:x", "hf:a/b/c.bin"):
        with pytest.raises(EmpuError) as caught:
            pull(store, Request(source))
        assert "\n" not in str(caught.value)


def test_whatever_is_pulled_opens_from_the_store(store: Store, tmp_path: Path) -> None:
    """One shard with an index, a file inside a folder, and files that change answers."""
    folder = tmp_path / "one"
    tiny_folder(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    (folder / "task.json").write_text("{}")
    whole = pull(store, Request(str(folder / "model.safetensors"), "inside")).model
    names = {file.name for file in whole.record.files}
    assert {"task.json", "additional_chat_templates/tool_use.jinja"} <= names
    weights = folder / "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(weights)
    tensors = dict.fromkeys(read_safetensors(weights).entries, weights.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": tensors}))
    sharded = pull(store, Request(str(folder), "sharded")).model
    for model in (whole, sharded):
        with open_checkpoint(model.path) as checkpoint:
            assert checkpoint.config == preset("tiny")


@pytest.mark.parametrize("damage", ["{", None])
def test_a_damaged_record_is_replaced_and_stops_no_other_pull(store: Store, tmp_path: Path, damage: str | None) -> None:
    for seed, name in enumerate(("broken", "other")):
        tiny_folder(tmp_path / name, seed=seed)
    first = pull(store, Request(str(tmp_path / "broken"))).model
    if damage is None:
        shutil.rmtree(first.folder)
    else:
        (first.folder / "model.json").chmod(0o600)
        (first.folder / "model.json").write_text(damage)
    assert pull(store, Request(str(tmp_path / "other"))).new_model
    told: list[str] = []
    assert [model.name for model in store.all(told.append)] == ["other"]
    assert len(told) == 1
    assert pull(store, Request(str(tmp_path / "broken"))).new_model
    assert [model.name for model in store.all()] == ["broken", "other"]
    store.verify(store.all()[0])
