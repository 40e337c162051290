"""Two stores with a specialist each: one of an Apache-2.0 base, one of a base under the Llama 3.1 licence."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.store.store import Store
from empu.store.stored_model import StoredModel
from tests.specialist.samples import labelled_csv, small_base
from tests.specialist.workspace import RECIPE_OPTIONS, Workspace


def workspace_with_base(folder: Path, licence: str) -> Workspace:
    """Return a workspace with a small base model under ``licence`` and a file of rows."""
    workspace = Workspace(folder)
    base = small_base(folder / "base")
    (base / "README.md").write_text(f"---\nlicense: {licence}\n---\n# Small base\n")
    workspace.empu("pull", str(base), "--name", "tiny")
    (folder / "rows.csv").write_text(labelled_csv(60))
    return workspace


def tune(workspace: Workspace, name: str, *options: str, exit_code: int = 0) -> str:
    """Tune for one epoch; return the messages."""
    command = ("tune", "rows.csv", "--name", name, "--epochs", "1", *RECIPE_OPTIONS, *options)
    return workspace.empu(*command, exit_code=exit_code)[1]


def store_and_model(workspace: Workspace, name: str) -> tuple[Store, StoredModel]:
    """Return the store of a workspace and a model in it."""
    store = Store(workspace.folder / "home")
    model = store.find(name)
    assert model is not None
    return store, model


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = workspace_with_base(tmp_path_factory.mktemp("apache"), "apache-2.0")
    tune(workspace, "desk", "--licence", "CC-BY-4.0")
    return workspace
