"""The main job on the real default model, as a user types it: tune, ask, show, trace, verify, export, refuse."""

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
ROWS = 36


class Shop:
    """A store, a small file of tickets, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "tickets.csv"
        with EXAMPLE.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["queue"] in QUEUES]
        with self.data.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text", "queue"])
            writer.writeheader()
            writer.writerows(rows[:ROWS])
            writer.writerow({"id": "X1", "text": "", "queue": "sales"})
            writer.writerow(rows[0])

    def empu(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "EMPU_HOME": str(self.folder / "home")}
        command = [sys.executable, "-m", "empu", *words]
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    def json(self, *words: str) -> dict[str, Any]:
        document = json.loads(self.empu(*words, "--json").stdout)
        assert isinstance(document, dict)
        return document

    def tune(self, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        recipe = ("--epochs", "1", "--rank", "4", "--threads", "1")
        return self.empu("tune", "tickets.csv", "--name", "router", *recipe, *more, code=code)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, default_gguf: Path) -> Shop:
    """With the default model and one specialist in it."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.empu("pull", "default")
    done = shop.tune("--licence", "CC0-1.0")
    assert f"{ROWS + 2} records read, {ROWS} rows used" in done.stderr
    assert f"tickets.csv:{ROWS + 2}: the text is empty" in done.stderr
    assert "curve.png" in done.stdout + done.stderr
    assert "TF-IDF + logistic regression" in done.stdout
    assert "router" in done.stdout.splitlines()[-1]
    return shop


pytestmark = pytest.mark.xdist_group("specialist")


def test_it_names_a_label_with_its_confidence(shop: Shop) -> None:
    answer = shop.json("run", "router", "Where is my parcel? The order was sent nine days ago.")
    assert answer["label"] in QUEUES
    assert 0 < answer["confidence"] <= 1
    assert {answer["label"], *(other["label"] for other in answer["alternatives"])} == set(QUEUES)


def test_the_card_tells_lineage_rows_scores_and_recipe(shop: Shop) -> None:
    card = shop.json("show", "router")["card"]
    assert [one["name"] for one in card["lineage"]] == ["router", "default"]
    (source,) = card["sources"]
    assert (source["path"], source["licence"], sum(source["rows"].values())) == ("tickets.csv", "CC0-1.0", ROWS)
    assert card["left_out"] == 2
    assert {score["settings"]["name"] for score in card["scores"]} >= {"router", "TF-IDF + logistic regression"}
    assert card["run"]["status"] == "finished"
    assert len(card["losses"]) == card["run"]["facts"]["steps"]
    text = shop.empu("show", "router").stdout
    assert "how to repeat" in text
    assert "not known" in text


def test_rows_are_traced_from_both_ends(shop: Shop) -> None:
    rows = shop.json("trace", "router")["rows"]
    assert len(rows) == ROWS
    trained = next(row for row in rows if row["split"] == "train")
    found = shop.json("trace", "--row", f"tickets.csv:{trained['number']}")
    assert found["trained"] == ["router"]
    assert shop.json("trace", "--text", trained["fields"]["text"])["trained"] == ["router"]
    assert "left out of a data set" in shop.empu("trace", "--row", f"tickets.csv:{ROWS + 2}").stdout
    assert "No model" in shop.empu("trace", "--text", "never said").stderr


def test_verify_finds_a_changed_byte(shop: Shop) -> None:
    assert shop.json("verify", "router")["problems"] == []
    path = Path(shop.json("show", "router")["path"]) / "task.json"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole.replace(b"billing", b"Billing"))
    try:
        assert "changed" in shop.empu("verify", "router", code=1).stderr
        assert "changed since it was recorded" in shop.empu("run", "router", "hello", code=1).stderr
    finally:
        path.write_bytes(whole)


def test_a_repeated_run_gives_the_same_weights(shop: Shop) -> None:
    repeated = shop.json("verify", "router", "--retrain")["repeated"]
    assert repeated["differing"] == []
    assert repeated["steps"] == shop.json("show", "router")["card"]["run"]["facts"]["steps"]


def test_the_same_command_is_not_done_twice_and_names_keep_their_meaning(shop: Shop) -> None:
    again = shop.tune("--licence", "CC0-1.0")
    assert "already" in again.stderr
    assert "held-out rows" in again.stdout  # how it compared is told again
    assert "already means another model" in shop.tune("--seed", "1", code=1).stderr
    plan = json.loads(shop.tune("--plan", "--seed", "0", "--json").stdout)
    assert plan["recipe"]["rank"] == 4
    assert plan["seconds"] > 0


def test_a_name_moves_to_another_specialist_only_when_asked(shop: Shop) -> None:
    before = shop.json("show", "router")["id"]
    shop.tune("--seed", "1", "--replace", "--no-compare")
    try:
        assert shop.json("show", "router")["id"] != before
        assert shop.json("show", before)["id"] == before
    finally:
        shop.tune("--licence", "CC0-1.0", "--replace")
    assert shop.json("show", "router")["id"] == before
    assert "already means another model" in shop.tune("--seed", "1", "--name", "default", "--replace", code=1).stderr


@pytest.mark.parametrize(("form", "target"), [("hf", "folder"), ("gguf", "model.gguf")])
def test_exports_answer_as_the_specialist_does(shop: Shop, form: str, target: str) -> None:
    done = shop.json("export", "router", target, "--to", form)
    assert done["asked"] >= 3
    assert done["same"] >= done["asked"] - 1
    assert "exists already" in shop.empu("export", "router", target, "--to", form, code=2).stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\nhello,a\n", "at least 10 are needed"),
        ("text,label\n" + "".join(f"text number {i},a\n" for i in range(20)), "add another class"),
        ("one,two\n1,2\n3,4\n", "does not say what to learn"),
        ("", "is empty"),
    ],
)
def test_bad_data_is_one_sentence_and_leaves_nothing(shop: Shop, content: str, words: str) -> None:
    (shop.folder / "bad.csv").write_text(content)
    done = shop.empu("tune", "bad.csv", "--name", "bad", code=1 if "learn" not in words else 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "bad" not in [model["name"] for model in shop.json("models")["models"]]


def test_a_disk_that_fills_up_while_tuning_is_one_sentence_and_the_run_is_done_later(shop: Shop) -> None:
    words = ("tune", "tickets.csv", "--name", "later", "--epochs", "1", "--rank", "4", "--threads", "1", "--no-compare")
    limited = f"ulimit -f 4096; exec {sys.executable} -m empu {' '.join(words)}"  # blocks of 1 KiB; the state has more
    env = {**os.environ, "EMPU_HOME": str(shop.folder / "home")}
    done = subprocess.run(
        ["bash", "-c", limited], env=env, cwd=shop.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "There is no room left while writing" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "later" not in [model["name"] for model in shop.json("models")["models"]]
    shop.empu(*words)
    assert shop.json("show", "later")["id"]
