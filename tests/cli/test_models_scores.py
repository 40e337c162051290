"""`empu models` shows the score of specialists."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.specialist.samples import labelled_csv, small_base


def test_models_show_the_score_of_specialists(empu: Run, tmp_path: Path) -> None:
    assert empu("pull", str(small_base(tmp_path / "base")), "--name", "tiny").code == 0
    (tmp_path / "rows.csv").write_text(labelled_csv(60))
    recipe = ("--base", "tiny", "--epochs", "1", "--precision", "float32", "--rank", "4", "--threads", "1")
    assert empu("tune", str(tmp_path / "rows.csv"), "--name", "colours", *recipe).code == 0
    scores = {model["name"]: model["score"] for model in empu("models", "--json").json["models"]}
    assert scores["tiny"] is None
    assert scores["colours"]["metric"] == "accuracy"
    shown = empu("models").out
    assert f"accuracy {scores['colours']['value']:.1%} of {scores['colours']['rows']} rows" in " ".join(shown.split())
