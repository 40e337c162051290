"""The pipeline on a small model: killed, out of disk space, resumed, and compared later."""

from __future__ import annotations

import json
import resource
import signal
import time
from pathlib import Path

from empu.ledger.ledger import Ledger
from tests.specialist.samples import labelled_csv
from tests.specialist.workspace import RECIPE_OPTIONS, Workspace


def test_a_killed_run_resumes_to_the_same_bytes_and_a_missing_comparison_is_made_later(tmp_path: Path) -> None:
    tune = ("tune", "rows.csv", "--name", "it", *RECIPE_OPTIONS, "--epochs", "20")
    unbroken, killed = (
        Workspace(tmp_path / name).with_rows("rows.csv", labelled_csv(120)) for name in ("unbroken", "killed")
    )
    assert unbroken.json(*tune)["comparison"]["systems"]
    process = killed.start(*tune, "--no-compare")
    staging = killed.folder / "home" / "tmp"
    deadline = time.monotonic() + 200
    while not list(staging.glob("tune-*/state/*.safetensors")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [model["name"] for model in killed.json("models")["models"]] == ["tiny"]
    _, err = killed.empu(*tune, "--no-compare")
    assert "Resuming after step" in err
    assert killed.weights("it") == unbroken.weights("it")
    first_out, err = killed.empu(*tune)  # without --no-compare the missing comparison is made
    assert "already" in err
    assert "TF-IDF" in first_out
    second_out, err = killed.empu(*tune)  # the recorded comparison is shown
    assert "Fitting" not in err
    assert "TF-IDF" in second_out
    assert second_out != first_out
    assert killed.json("verify", "it", "--retrain")["repeated"]["differing"] == []
    with Ledger.open(killed.folder / "home" / "ledger.db") as ledger:
        steps = [step.number for step in ledger.steps(ledger.model("it").run or "")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) == len(unbroken.json("show", "it")["card"]["losses"])


def test_a_budget_chooses_the_epochs_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).with_rows("rows.csv", labelled_csv(60))
    tune = ("tune", "rows.csv", "--name", "it", *RECIPE_OPTIONS, "--epochs", "1000", "--no-compare", "--budget")
    _, err = workspace.empu(*tune, "3s")
    assert "of 1000 epochs: more do not fit" in err
    _, err = workspace.empu(*tune, "3s")
    assert "already" in err
    assert "as chosen for this budget" in err
    _, err = workspace.empu(*tune, "4s", exit_code=1)
    assert "--replace" in err


def test_a_completion_that_is_not_json_is_named_and_does_not_stop_the_run(tmp_path: Path) -> None:
    rows = [{"prompt": f"pays {i} today", "completion": json.dumps({"amount": i})} for i in range(60)]
    test_rows = [
        {"prompt": f"owes {i} now", "completion": json.dumps({"amount": i}) if i else "none"} for i in range(9)
    ]
    workspace = Workspace(tmp_path).with_rows("rows.jsonl", "\n".join(map(json.dumps, rows)))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, test_rows)))
    result = workspace.json(
        "tune", "rows.jsonl", "--test", "test.jsonl", "--name", "it", *RECIPE_OPTIONS, "--epochs", "1"
    )
    assert {"exact match", "amount"} == set(result["comparison"]["systems"][-1]["metrics"])
    mixed = [*rows, {"prompt": "?", "completion": "none"}] * 3
    (tmp_path / "mixed.jsonl").write_text("\n".join(map(json.dumps, mixed)))
    _, err = workspace.empu("tune", "mixed.jsonl", "--name", "other", *RECIPE_OPTIONS, "--plan")
    assert "free text: 1 of" in err
    assert "mixed.jsonl:61" in err


def test_a_test_file_of_out_of_scope_rows_only_gives_no_comparison(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).with_rows("rows.csv", labelled_csv(60))
    (tmp_path / "test.csv").write_text(labelled_csv(12, ("oos",), seed=1))
    out, err = workspace.empu(
        "tune", "rows.csv", "--test", "test.csv", "--name", "it", *RECIPE_OPTIONS, "--epochs", "1"
    )
    assert "12 rows are out of scope (oos)" in out + err
    assert "No row will be rejected as out of scope" in err
    assert "Nothing is compared" in err
    assert workspace.json("show", "it")["path"]


def test_a_full_disk_gives_one_sentence_and_the_run_resumes_when_there_is_space(tmp_path: Path) -> None:
    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    workspace = Workspace(tmp_path).with_rows("rows.csv", labelled_csv(60))
    tune = (*("tune", "rows.csv", "--name", "it", *RECIPE_OPTIONS, "--rank", "16", "--epochs", "1", "--no-compare"),)
    _, err = workspace.empu(*tune, exit_code=1, before_exec=limit_file_size)
    assert "no room left" in err
    assert "Traceback" not in err
    assert [model["name"] for model in workspace.json("models")["models"]] == ["tiny"]
    workspace.empu(*tune)
    assert workspace.json("verify", "it")["problems"] == []


def test_json_answers_keep_their_schema_and_the_order_of_its_keys(tmp_path: Path) -> None:
    names = ["Ani", "Budi", "Citra", "Dewi"]
    rows = [
        {"prompt": f"{names[i % 4]} pays {i} today", "completion": json.dumps({"who": names[i % 4], "amount": i})}
        for i in range(60)
    ]
    workspace = Workspace(tmp_path).with_rows("rows.jsonl", "\n".join(map(json.dumps, rows)))
    result = workspace.json("tune", "rows.jsonl", "--name", "it", *RECIPE_OPTIONS, "--epochs", "1")
    systems = {system["name"]: system for system in result["comparison"]["systems"]}
    assert {"exact match", "who", "amount"} <= set(systems["it"]["metrics"])
    assert any("line tagger" in name for name in systems)
    answer = json.loads(workspace.json("run", "it", "Budi pays 7 today")["text"])
    assert list(answer) == ["who", "amount"]
    assert isinstance(answer["amount"], int)
