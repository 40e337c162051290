"""``empu eval`` on the tiny model: table, JSON, comparison, plan, cache and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.store.tiny_models import tiny_gguf


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    records = [{"goal": f"goal {i}", "sol1": "push", "sol2": f"pull {i}", "label": i % 2} for i in range(12)]
    (folder / "valid.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    tiny_gguf(tmp_path / "other.gguf", seed=1)
    return tmp_path / "other.gguf"


def test_a_suite_prints_a_table_with_its_engine(empu: Run, tiny: Path, data: Path) -> None:
    outcome = empu("eval", str(tiny), "--suite", "piqa", "--data", str(data), "--engine", "torch")
    assert outcome.code == 0, outcome.err
    assert "torch-cpu-float32" in outcome.out
    assert "acc_norm" in outcome.out
    assert "12 rows in" in outcome.err
    again = empu("eval", str(tiny), "--suite", "piqa", "--data", str(data), "--engine", "torch", "--limit", "5")
    assert "cached" in again.out
    assert "5 from the cache" in again.err


def test_two_models_are_compared_on_the_same_rows(empu: Run, tiny: Path, other: Path, data: Path) -> None:
    document = empu(
        "eval",
        str(tiny),
        "--against",
        str(other),
        "--suite",
        "piqa",
        "--data",
        str(data),
        "--engine",
        "torch",
        "--json",
    ).json
    assert [result["rows"] for result in document["results"]] == [12, 12]
    assert document["results"][0]["row_set"] == document["results"][1]["row_set"]
    (comparison,) = document["comparisons"]
    assert comparison["outcome"] in {"better", "worse", "tied", "undecided"}
    assert comparison["test"] == "exact McNemar"
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]


def test_a_stored_models_metrics_are_recorded(empu: Run, tiny: Path, data: Path) -> None:
    empu("pull", str(tiny), "--name", "small")
    empu("eval", "small", "--suite", "piqa", "--data", str(data), "--engine", "torch")
    assert empu("verify", "small").code == 0
    from empu.ledger.ledger import Ledger
    from empu.store.store import Store

    store = Store.of_user()
    model = store.find("small")
    assert model is not None
    with Ledger.open(store.ledger_path) as ledger:
        (evaluation,) = ledger.evaluations(model.record.id)
    assert evaluation.split == "suite piqa"
    assert evaluation.settings["engine"] == "torch-cpu-float32"
    assert evaluation.metrics["acc"].rows == 12


def test_a_plan_runs_nothing(empu: Run, tiny: Path, data: Path) -> None:
    outcome = empu("eval", str(tiny), "--suite", "piqa", "--data", str(data), "--plan")
    assert outcome.code == 0
    assert "piqa: 12 rows" in outcome.out
    assert "rows for 3 points" in outcome.out
    document = json.loads(empu("eval", str(tiny), "--suite", "piqa", "--data", str(data), "--plan", "--json").out)
    assert document[0]["plan"][2]["rows_needed"]["0.03"] > 1000


def test_the_list_names_suites_and_licences(empu: Run) -> None:
    outcome = empu("eval", "--list")
    assert "global_mmlu_lite_id" in outcome.out
    assert "CC BY-SA 4.0" in outcome.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--suite", "piqa", "--data", "DATA"), "Name at least one model"),
        (("TINY", "--data", "DATA"), "Name at least one suite with --suite"),
        (("TINY", "--suite", "piqa"), "Give the file or folder"),
        (("TINY", "--suite", "nope", "--data", "DATA"), "There is no suite 'nope'"),
        (("TINY", "--suite", "gsm8k", "--data", "DATA"), "has no data of the suite gsm8k"),
        (("TINY", "--suite", "piqa", "--data", "/nowhere"), "does not exist"),
        (("TINY", "--against", "TINY", "--suite", "piqa", "--data", "DATA"), "is named twice"),
        (("TINY", "--suite", "piqa", "--data", "DATA", "--shots", "2"), "no few-shot examples for piqa"),
    ],
)
def test_bad_input_is_one_sentence(empu: Run, tiny: Path, data: Path, words: tuple[str, ...], sentence: str) -> None:
    places = {"TINY": str(tiny), "DATA": str(data)}
    outcome = empu("eval", *(places.get(word, word) for word in words))
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
