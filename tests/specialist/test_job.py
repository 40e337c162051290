"""The whole job on a small model: killed, stopped by a full disk, gone on with, its lost comparison made up for."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from empu.ledger.ledger import Ledger
from tests.specialist.making import labelled, small_base

RECIPE = ("--base", "tiny", "--precision", "float32", "--rank", "4", "--threads", "1", "--learning-rate", "0.005")


class Works:
    """A store of its own and the command line, each command a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def start(self, *words: str, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        env = {**os.environ, "EMPU_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "empu", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=env, cwd=self.folder, stdout=pipe, stderr=pipe, text=True, preexec_fn=before
        )

    def empu(self, *words: str, code: int = 0, before: Callable[[], None] | None = None) -> tuple[str, str]:
        process = self.start(*words, before=before)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        return out, err

    def json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.empu(*words, "--json")[0])
        return found

    def weights(self, name: str) -> bytes:
        """The bytes of what was tuned."""
        (file,) = Path(self.json("show", name)["path"]).glob("*.safetensors")
        return file.read_bytes()

    def begin(self, name: str, content: str) -> Works:
        """With the base in the store and a file of rows."""
        self.empu("pull", str(small_base(self.folder / "base")), "--name", "tiny")
        (self.folder / name).write_text(content)
        return self


def test_a_killed_run_goes_on_to_the_same_bytes_and_what_was_lost_is_compared(tmp_path: Path) -> None:
    words = ("tune", "rows.csv", "--name", "it", *RECIPE, "--epochs", "20")
    whole, broken = (Works(tmp_path / name).begin("rows.csv", labelled(120)) for name in ("whole", "broken"))
    assert whole.json(*words)["comparison"]["systems"]
    process = broken.start(*words, "--no-compare")
    states = broken.folder / "home" / "tmp"
    deadline = time.monotonic() + 200
    while not list(states.glob("tune-*/state/*.safetensors")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [one["name"] for one in broken.json("models")["models"]] == ["tiny"]
    _, err = broken.empu(*words, "--no-compare")
    assert "Going on after step" in err
    assert broken.weights("it") == whole.weights("it")
    out, err = broken.empu(*words)  # the comparison was left out, as it is after a crash: it is made up for
    assert "already" in err
    assert "TF-IDF" in out
    again, err = broken.empu(*words)  # told again, not asked again
    assert "Fitting" not in err
    assert "TF-IDF" in again
    assert again != out
    assert broken.json("verify", "it", "--retrain")["repeated"]["differing"] == []
    with Ledger.open(broken.folder / "home" / "ledger.db") as ledger:
        steps = [step.number for step in ledger.steps(ledger.model("it").run or "")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) == len(whole.json("show", "it")["card"]["losses"])


def test_a_budget_chooses_epochs_once(tmp_path: Path) -> None:
    works = Works(tmp_path).begin("rows.csv", labelled(60))
    words = ("tune", "rows.csv", "--name", "it", *RECIPE, "--epochs", "1000", "--budget", "3s", "--no-compare")
    _, err = works.empu(*words)
    assert "of 1000 epochs: more do not fit" in err
    _, err = works.empu(*words)
    assert "already" in err
    assert "as chosen for this budget" in err
    _, err = works.empu(*words[:-2], "4s", "--no-compare", code=1)
    assert "--replace" in err


def test_one_completion_of_another_kind_is_named_and_costs_no_run(tmp_path: Path) -> None:
    rows = [{"prompt": f"pays {i} today", "completion": json.dumps({"amount": i})} for i in range(60)]
    held = [{"prompt": f"owes {i} now", "completion": json.dumps({"amount": i}) if i else "none"} for i in range(9)]
    works = Works(tmp_path).begin("rows.jsonl", "\n".join(map(json.dumps, rows)))
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, held)))
    made = works.json("tune", "rows.jsonl", "--test", "held.jsonl", "--name", "it", *RECIPE, "--epochs", "1")
    assert {"exact match", "amount"} == set(made["comparison"]["systems"][-1]["metrics"])
    (tmp_path / "mixed.jsonl").write_text(
        "\n".join(map(json.dumps, [*rows, {"prompt": "?", "completion": "none"}] * 3))
    )
    _, err = works.empu("tune", "mixed.jsonl", "--name", "other", *RECIPE, "--plan")
    assert "free text: 1 of" in err
    assert "mixed.jsonl:61" in err


def test_a_test_file_of_rows_out_of_scope_alone_is_no_comparison_and_says_so(tmp_path: Path) -> None:
    works = Works(tmp_path).begin("rows.csv", labelled(60))
    (tmp_path / "held.csv").write_text(labelled(12, ("oos",), seed=1))
    out, err = works.empu("tune", "rows.csv", "--test", "held.csv", "--name", "it", *RECIPE, "--epochs", "1")
    assert "12 rows are out of scope (oos)" in out + err
    assert "Nothing is refused as out of scope" in err
    assert "Nothing is compared" in err
    assert works.json("show", "it")["path"]


def test_a_full_disk_in_the_middle_is_a_sentence_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    works = Works(tmp_path).begin("rows.csv", labelled(60))
    words = ("tune", "rows.csv", "--name", "it", *RECIPE, "--rank", "16", "--epochs", "1", "--no-compare")
    _, err = works.empu(*words, code=1, before=little_room)
    assert "no room left" in err
    assert "Traceback" not in err
    assert [one["name"] for one in works.json("models")["models"]] == ["tiny"]
    works.empu(*words)
    assert works.json("verify", "it")["problems"] == []


def test_json_answers_keep_their_schema_and_its_order_to_the_end(tmp_path: Path) -> None:
    names = ["Ani", "Budi", "Citra", "Dewi"]
    rows = [
        {"prompt": f"{names[i % 4]} pays {i} today", "completion": json.dumps({"who": names[i % 4], "amount": i})}
        for i in range(60)
    ]
    works = Works(tmp_path).begin("rows.jsonl", "\n".join(map(json.dumps, rows)))
    made = works.json("tune", "rows.jsonl", "--name", "it", *RECIPE, "--epochs", "1")
    systems = {system["name"]: system for system in made["comparison"]["systems"]}
    assert {"exact match", "who", "amount"} <= set(systems["it"]["metrics"])
    assert any("line tagger" in name for name in systems)
    answer = json.loads(works.json("run", "it", "Budi pays 7 today")["text"])
    assert list(answer) == ["who", "amount"]
    assert isinstance(answer["amount"], int)
