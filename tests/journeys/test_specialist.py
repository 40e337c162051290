"""The main job on the real default model, as a user types it: tune, run, show, trace, verify and export."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "helpdesk" / "tickets.csv"
QUEUES = ("billing", "sales", "delivery")
NUM_ROWS = 36
RECIPE_OPTIONS = ("--epochs", "1", "--rank", "4", "--threads", "1")


class Helpdesk:
    """A store, a small file of tickets, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "tickets.csv"
        with EXAMPLE.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["queue"] in QUEUES]
        with self.data.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text", "queue"])
            writer.writeheader()
            writer.writerows(rows[:NUM_ROWS])
            writer.writerow({"id": "X1", "text": "", "queue": "sales"})
            writer.writerow(rows[0])

    def empu(self, *args: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "EMPU_HOME": str(self.folder / "home")}
        command = [sys.executable, "-m", "empu", *args]
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == exit_code, done.stderr
        return done

    def json(self, *args: str) -> dict[str, Any]:
        document = json.loads(self.empu(*args, "--json").stdout)
        assert isinstance(document, dict)
        return document

    def tune(self, *args: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.empu("tune", "tickets.csv", "--name", "router", *RECIPE_OPTIONS, *args, exit_code=exit_code)


@pytest.fixture(scope="module")
def helpdesk(tmp_path_factory: pytest.TempPathFactory, default_gguf: Path) -> Helpdesk:
    """The default model and one specialist."""
    helpdesk = Helpdesk(tmp_path_factory.mktemp("helpdesk"))
    helpdesk.empu("pull", "default")
    done = helpdesk.tune("--licence", "CC0-1.0")
    assert f"{NUM_ROWS + 2} records read, {NUM_ROWS} rows used" in done.stderr
    assert f"tickets.csv:{NUM_ROWS + 2}: the text is empty" in done.stderr
    assert "curve.png" in done.stdout + done.stderr
    assert "TF-IDF + linear SVM" in done.stdout
    assert "router" in done.stdout.splitlines()[-1]
    return helpdesk


pytestmark = pytest.mark.xdist_group("specialist")


def test_run_gives_a_label_with_its_confidence(helpdesk: Helpdesk) -> None:
    answer = helpdesk.json("run", "router", "Where is my parcel? The order was sent nine days ago.")
    assert answer["label"] in QUEUES
    assert 0 < answer["confidence"] <= 1
    assert {answer["label"], *(other["label"] for other in answer["alternatives"])} == set(QUEUES)


def test_the_card_has_lineage_rows_scores_and_recipe(helpdesk: Helpdesk) -> None:
    card = helpdesk.json("show", "router")["card"]
    assert [model["name"] for model in card["lineage"]] == ["router", "default"]
    (source,) = card["sources"]
    assert (source["path"], source["licence"], sum(source["rows"].values())) == ("tickets.csv", "CC0-1.0", NUM_ROWS)
    assert card["left_out"] == 2
    assert {score["settings"]["name"] for score in card["scores"]} >= {"router", "TF-IDF + linear SVM"}
    assert card["run"]["status"] == "finished"
    assert len(card["losses"]) == card["run"]["facts"]["steps"]
    text = helpdesk.empu("show", "router").stdout
    assert "how to repeat" in text
    assert "not known" in text


def test_rows_are_traced_from_both_ends(helpdesk: Helpdesk) -> None:
    rows = helpdesk.json("trace", "router")["rows"]
    assert len(rows) == NUM_ROWS
    trained = next(row for row in rows if row["split"] == "train")
    found = helpdesk.json("trace", "--row", f"tickets.csv:{trained['number']}")
    assert found["trained"] == ["router"]
    assert helpdesk.json("trace", "--text", trained["fields"]["text"])["trained"] == ["router"]
    assert "excluded from a data set" in helpdesk.empu("trace", "--row", f"tickets.csv:{NUM_ROWS + 2}").stdout
    assert "No model" in helpdesk.empu("trace", "--text", "never said").stderr


def test_verify_detects_a_changed_byte(helpdesk: Helpdesk) -> None:
    assert helpdesk.json("verify", "router")["problems"] == []
    path = Path(helpdesk.json("show", "router")["path"]) / "task.json"
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content.replace(b"billing", b"Billing"))
    try:
        assert "changed" in helpdesk.empu("verify", "router", exit_code=1).stderr
        assert "changed since it was recorded" in helpdesk.empu("run", "router", "hello", exit_code=1).stderr
    finally:
        path.write_bytes(content)


def test_a_repeated_run_gives_the_same_weights(helpdesk: Helpdesk) -> None:
    repeated = helpdesk.json("verify", "router", "--retrain")["repeated"]
    assert repeated["differing"] == []
    assert repeated["steps"] == helpdesk.json("show", "router")["card"]["run"]["facts"]["steps"]


def test_the_same_command_does_not_run_twice_and_names_keep_their_model(helpdesk: Helpdesk) -> None:
    again = helpdesk.tune("--licence", "CC0-1.0")
    assert "already" in again.stderr
    assert "held-out rows" in again.stdout  # the recorded comparison is shown
    assert "belongs to another model already" in helpdesk.tune("--seed", "1", exit_code=1).stderr
    plan = json.loads(helpdesk.tune("--plan", "--seed", "0", "--json").stdout)
    assert plan["recipe"]["rank"] == 4
    assert plan["seconds"] > 0


def test_a_name_moves_to_another_specialist_only_with_replace(helpdesk: Helpdesk) -> None:
    before = helpdesk.json("show", "router")["id"]
    helpdesk.tune("--seed", "1", "--replace", "--no-compare")
    try:
        assert helpdesk.json("show", "router")["id"] != before
        assert helpdesk.json("show", before)["id"] == before
    finally:
        helpdesk.tune("--licence", "CC0-1.0", "--replace")
    assert helpdesk.json("show", "router")["id"] == before
    assert (
        "belongs to another model already"
        in helpdesk.tune("--seed", "1", "--name", "default", "--replace", exit_code=1).stderr
    )


@pytest.mark.parametrize(("export_format", "target"), [("hf", "folder"), ("gguf", "model.gguf")])
def test_exported_files_answer_like_the_specialist(helpdesk: Helpdesk, export_format: str, target: str) -> None:
    done = helpdesk.json("export", "router", target, "--to", export_format)
    assert done["asked"] >= 3
    assert done["same"] >= done["asked"] - 1
    assert "exists already" in helpdesk.empu("export", "router", target, "--to", export_format, exit_code=2).stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\nhello,a\n", "at least 10 are needed"),
        ("text,label\n" + "".join(f"text number {i},a\n" for i in range(20)), "add another class"),
        ("one,two\n1,2\n3,4\n", "does not say what to learn"),
        ("", "is empty"),
    ],
)
def test_bad_data_gives_one_sentence_and_adds_nothing(helpdesk: Helpdesk, content: str, message: str) -> None:
    (helpdesk.folder / "bad.csv").write_text(content)
    done = helpdesk.empu("tune", "bad.csv", "--name", "bad", exit_code=1 if "learn" not in message else 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "bad" not in [model["name"] for model in helpdesk.json("models")["models"]]


def test_a_full_disk_gives_one_sentence_and_the_run_succeeds_later(helpdesk: Helpdesk) -> None:
    args = ("tune", "tickets.csv", "--name", "later", *RECIPE_OPTIONS, "--no-compare")
    limited = (
        f"ulimit -f 4096; exec {sys.executable} -m empu {' '.join(args)}"  # blocks of 1 KiB; the checkpoint is larger
    )
    env = {**os.environ, "EMPU_HOME": str(helpdesk.folder / "home")}
    done = subprocess.run(
        ["bash", "-c", limited], env=env, cwd=helpdesk.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "There is no room left while writing" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "later" not in [model["name"] for model in helpdesk.json("models")["models"]]
    helpdesk.empu(*args)
    assert helpdesk.json("show", "later")["id"]
