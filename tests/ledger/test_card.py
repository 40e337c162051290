"""The model card collects what the ledger records about a tuned model."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.ledger.card import latest_comparison, model_card
from empu.ledger.ledger import Ledger
from empu.ledger.records import Evaluation, Metric, TrainingStep
from tests.ledger.writer import BASE, HELP, dataset_rows, digest, evaluation, exclusions, model, run


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.add_model(model("base"))
    dataset = ledger.add_dataset("text,label", dataset_rows(12), exclusions(2))
    run_id = ledger.start_run(run(dataset, digest("base")))
    ledger.record_steps(run_id, [TrainingStep(1, 2.0), TrainingStep(2, 1.0)])
    ledger.add_model(model("help", digest("base"), run_id))
    return ledger


def test_card_holds_lineage_sources_exclusions_run_and_losses(ledger: Ledger) -> None:
    card = model_card(ledger, digest("help"))
    assert card is not None
    assert [ancestor.name for ancestor in card.lineage] == ["help", "base"]
    assert card.sources == [(HELP, {"train": 6, "dev": 3, "test": 3})]
    assert (card.excluded_rows, card.exclusion_reasons.most_common()) == (2, [("the text is empty", 2)])
    assert (card.run.base, card.losses, card.evaluations) == (digest("base"), [2.0, 1.0], [])
    document = card.to_json()
    assert document.keys() == {"lineage", "sources", "left_out", "run"}
    assert document["lineage"][0] == {"name": "help", "id": f"sha256:{digest('help')}", "licence": "Apache-2.0"}
    assert document["sources"][0]["rows"] == {"train": 6, "dev": 3, "test": 3}


def test_unknown_and_pulled_models_have_no_card(ledger: Ledger) -> None:
    assert model_card(ledger, digest("base")) is None
    assert model_card(ledger, BASE) is None


def test_latest_comparison_ends_with_the_model_itself(ledger: Ledger) -> None:
    metrics = {"accuracy": Metric(0.5, 0.4, 0.6, 3)}
    ledger.add_evaluation(Evaluation("majority", None, "test", metrics, {}, {}))
    ledger.add_evaluation(evaluation(digest("help"), ledger.run(ledger.model("help").run or "").dataset or ""))
    ledger.add_evaluation(Evaluation(digest("help"), None, "test", metrics, {"against": ["majority"]}, {}))
    compared = latest_comparison(ledger, digest("help"))
    assert [recorded.model for recorded in compared] == ["majority", digest("help")]
    assert compared[-1].settings == {"against": ["majority"]}
