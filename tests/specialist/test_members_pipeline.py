"""A specialist of several members from the command line: tuned, asked, shown, verified, repeated and exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.specialist.samples import labelled_csv
from tests.specialist.workspace import RECIPE_OPTIONS, Workspace

TUNE = ("tune", "rows.csv", "--name", "it", *RECIPE_OPTIONS, "--epochs", "1", "--members", "lm,tfidf")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A specialist of a poor language model and TF-IDF."""
    workspace = Workspace(tmp_path_factory.mktemp("members")).with_rows(
        "rows.csv", labelled_csv(400, ("red", "blue", "green"))
    )
    result = workspace.json(*TUNE)
    report = result["comparison"]["ensemble"]
    assert set(report["gains"]) <= {"lm", "tfidf"}
    assert any("5-fold" in sentence for sentence in report["sentences"])
    systems = {system["name"]: system for system in result["comparison"]["systems"]}
    assert {"TF-IDF + linear SVM", "language model alone", "it"} <= set(systems)
    assert systems["it"]["metrics"]["accuracy"]["value"] > 0.9
    return workspace


pytestmark = pytest.mark.xdist_group("members")


def test_run_asks_all_members_or_the_cheap_ones(workspace: Workspace) -> None:
    answer = workspace.json("run", "it", "blue parcel late please")
    assert answer["label"] == "blue"
    assert set(answer["members"]) <= {"lm", "tfidf"}
    assert workspace.json("run", "it", "--fast", "blue parcel late please")["label"] == "blue"


def test_the_card_shows_what_each_member_is_worth(workspace: Workspace) -> None:
    shown = workspace.json("show", "it")
    assert {"members.json", "members.safetensors", "members_vocabulary.txt"} <= {
        file["name"] for file in shown["files"]
    }
    text, _ = workspace.empu("show", "it")
    assert "language model alone" in text
    assert "cross-validation of the cheap members" in text


def test_the_repeated_run_gives_the_same_members(workspace: Workspace) -> None:
    assert workspace.json("verify", "it", "--retrain")["repeated"]["differing"] == []


def test_other_members_are_another_run(workspace: Workspace) -> None:
    _, err = workspace.empu(*TUNE)
    assert "already tuned" in err
    _, err = workspace.empu(*TUNE[:-1], "lm", exit_code=1)
    assert "--replace" in err


def test_export_writes_the_language_model_and_says_so(workspace: Workspace) -> None:
    _, err = workspace.empu("export", "it", "exported", "--to", "hf")
    assert "Only the language model was written" in err
    assert not list((workspace.folder / "exported").glob("members*"))


@pytest.mark.parametrize("name", ["members.json", "members.safetensors", "members_vocabulary.txt"])
def test_a_changed_byte_of_a_member_is_refused(workspace: Workspace, name: str) -> None:
    path = Path(workspace.json("show", "it")["path"]) / name
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    try:
        _, err = workspace.empu("run", "it", "hello", exit_code=1)
        assert "changed since it was recorded" in err
    finally:
        path.write_bytes(content)


def test_impossible_members_are_one_sentence(workspace: Workspace) -> None:
    _, err = workspace.empu(*TUNE[:-1], "lm,oracle", exit_code=2)
    assert "no member 'oracle'" in err
    assert "Traceback" not in err
