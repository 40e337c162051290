"""Full tuning, preferences and out-of-scope rows, from the rows to the answers of the result, on a small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.specialist.samples import labelled_csv, preferences_jsonl, small_base

WHOLE = ("--base", "tiny", "--method", "full", "--learning-rate", "0.01", "--threads", "1")
RECIPE = ("--base", "tiny", "--precision", "float32", "--rank", "4", "--threads", "1", "--learning-rate", "0.005")


class Works:
    """The command line with the small model in the store, and a folder for rows."""

    def __init__(self, empu: Run, folder: Path) -> None:
        self._empu = empu
        self.folder = folder
        assert empu("pull", str(small_base(folder / "base")), "--name", "tiny").code == 0

    def rows(self, name: str, content: str) -> str:
        (self.folder / name).write_text(content)
        return str(self.folder / name)

    def empu(self, *words: str, code: int) -> str:
        done = self._empu(*words)
        assert done.code == code
        return done.err

    def json(self, *words: str) -> dict[str, Any]:
        done = self._empu(*words, "--json")
        assert done.code == 0, done.err
        return done.json


@pytest.fixture
def works(empu: Run, tmp_path: Path) -> Works:
    """See the class."""
    return Works(empu, tmp_path)


def test_full_tuning_gives_a_model_of_its_own(works: Works) -> None:
    rows = works.rows("rows.csv", labelled_csv(120))
    made = works.json("tune", rows, "--name", "whole", *WHOLE, "--epochs", "12")
    accuracies = {one["name"]: one["metrics"]["accuracy"]["value"] for one in made["comparison"]["systems"]}
    assert accuracies["whole"] > 0.9 > accuracies["base, no examples"]
    assert works.json("run", "whole", "red courier5 angry1")["label"] == "red"
    shown = works.json("show", "whole")
    assert [one["name"] for one in shown["card"]["lineage"]] == ["whole", "tiny"]
    assert (Path(made["curve"]) / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((Path(made["curve"]) / "curve.json").read_text())["dev_accuracy"]["value"] > 0.9
    assert works.json("verify", "whole", "--retrain")["repeated"]["differing"] == []
    exported = works.json("export", "whole", str(works.folder / "out"), "--to", "hf")
    assert exported["asked"] == exported["same"] > 0


def test_preferences_are_learned_and_compared_with_the_base(works: Works) -> None:
    rows = works.rows("pairs.jsonl", preferences_jsonl(120))
    made = works.json("tune", rows, "--name", "firm", *WHOLE, "--epochs", "4")
    base, ours = made["comparison"]["systems"]
    name = "finds the chosen answer likelier"
    assert ours["metrics"][name]["value"] > 0.9 > base["metrics"][name]["value"]
    assert ours["metrics"]["more than its base"]["value"] > 0.9
    done = works.json("export", "firm", str(works.folder / "merged"), "--to", "hf")
    assert done["replayed"] == "tokens"
    assert done["same"] >= 0.98 * done["asked"] > 50
    assert {path.name for path in works.folder.glob("*merged*")} == {"merged"}


def test_out_of_scope_rows_set_and_measure_a_threshold(works: Works) -> None:
    rows = works.rows("rows.csv", labelled_csv(400, ("red", "blue", "green", "oos")))
    made = works.json("tune", rows, "--name", "it", *RECIPE, "--epochs", "10")
    scope = made["comparison"]["out_of_scope"]
    assert 0 <= scope["threshold"] <= 1
    assert scope["found"]["rows"] == 10
    answer = works.json("run", "it", "red parcel3 late8 order4")
    assert answer["closest"] in {"red", "blue", "green"}
    assert answer["out_of_scope"] == (answer["confidence"] < scope["threshold"])
    parts = {row["split"] for row in works.json("trace", "it")["rows"] if row["fields"]["label"] == "oos"}
    assert parts == {"dev", "test"}, "no weight comes from rows out of scope"
    assert works.json("verify", "it", "--retrain")["repeated"]["differing"] == []


def test_options_without_effect_are_refused(works: Works) -> None:
    rows = works.rows("pairs.jsonl", preferences_jsonl(20))
    for more, words in ((("--out-of-scope", "x"), "for labelled rows"), (("--engine", "bogus"), "'auto', 'native'")):
        assert words in works.empu("tune", rows, "--name", "no", *WHOLE, *more, code=2)
    assert "trains all weights" in works.empu("tune", rows, "--name", "no", *WHOLE, "--rank", "8", code=2)
    made = works.rows("rows.csv", labelled_csv(60))
    works.json("tune", made, "--name", "it", *RECIPE, "--epochs", "1", "--no-compare")
    assert "predicts a label" in works.empu("run", "it", "hello", "--temperature", "1", code=2)
    assert "cannot chat" in works.empu("chat", "it", code=2)
    answer = works.json("run", "it", "hello")
    assert answer["calibrated"] is False, "of 60 rows too few are held back"
