"""Bases that could not be used later are refused at `pull`, each with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from empu.errors import EmpuError
from empu.store.pull.pull import PullSpec, pull
from empu.store.store import Store
from tests.tiny_bases import LFS_POINTER, write_base


def refusal(store: Store, path: Path) -> str:
    with pytest.raises(EmpuError) as refused:
        pull(store, PullSpec(str(path), "base"))
    assert store.names() == {}
    return str(refused.value)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_a_sound_base_is_pulled(store: Store, tmp_path: Path) -> None:
    assert pull(store, PullSpec(str(write_base(tmp_path / "base")))).is_new_model


def test_a_tokenizer_larger_than_the_model_is_refused(store: Store, tmp_path: Path) -> None:
    message = refusal(store, write_base(tmp_path / "base", missing_rows=2))
    assert "the tokenizer has 260 tokens and the model only 258" in message


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_git_lfs_pointer_is_named_in_every_file(store: Store, tmp_path: Path, name: str) -> None:
    base = write_base(tmp_path / "base")
    (base / name).write_text(LFS_POINTER)
    message = refusal(store, base)
    assert f"{base / name} is a Git LFS pointer" in message
    assert "git lfs pull" in message


def test_a_git_lfs_pointer_is_named_in_place_of_a_gguf_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text(LFS_POINTER)
    assert "is a Git LFS pointer" in refusal(store, tmp_path / "model.gguf")


def test_a_folder_without_tokenizer_is_refused(store: Store, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "tokenizer.json").unlink()
    assert "has neither tokenizer.json nor tokenizer.model" in refusal(store, base)


def test_an_end_token_outside_the_vocabulary_is_refused(store: Store, tmp_path: Path) -> None:
    assert "names 260 as the end token" in refusal(store, write_base(tmp_path / "base", eos_token_id=260))


def test_a_linked_folder_is_refused_for_the_same_reasons(store: Store, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", missing_rows=1)
    with pytest.raises(EmpuError, match="the model only 259"):
        pull(store, PullSpec(str(base), "base", link=True))
    shutil.rmtree(base)
