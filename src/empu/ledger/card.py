"""The model card: what the ledger records about a tuned model, for the command line and the HTTP API alike."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.queries import MissingFact, RecordedEvaluation, RecordedRun
from empu.ledger.records import RecordedModel, SourceFile


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Lineage, data, run, evaluations, and what is not known of one tuned model."""

    lineage: list[RecordedModel]
    """The model and its known ancestors, nearest first."""
    sources: list[tuple[SourceFile, dict[str, int]]]
    """Files behind the model and its ancestors, with their numbers of rows per split."""
    exclusion_reasons: Counter[str]
    """Reason -> number of rows excluded for it."""
    run: RecordedRun
    losses: list[float]
    """Training loss of each step."""
    evaluations: list[RecordedEvaluation]
    """The latest comparison; see :func:`latest_comparison`."""
    missing_facts: list[MissingFact]

    @property
    def excluded_rows(self) -> int:
        """Number of rows that the data set excludes."""
        return self.exclusion_reasons.total()

    def to_json(self) -> dict[str, Any]:
        """Return the properties that ``empu show --json`` and ``GET /api/models/{name}`` share."""
        return {
            "lineage": [
                {"name": model.name, "id": tagged(model.id), "licence": model.licence} for model in self.lineage
            ],
            "sources": [{**dataclasses.asdict(source), "rows": splits} for source, splits in self.sources],
            "left_out": self.excluded_rows,
            "run": dataclasses.asdict(self.run),
        }


def model_card(ledger: Ledger, model: str) -> ModelCard | None:
    """Return the card of a model (by id); ``None`` if this ledger does not know the model or no run made it."""
    run = ledger.run_of_model(model)
    if run is None:
        return None
    reasons = Counter(row.reason for row in ledger.excluded_rows(run.dataset)) if run.dataset else Counter[str]()
    return ModelCard(
        lineage=ledger.lineage(model),
        sources=ledger.sources(model),
        exclusion_reasons=reasons,
        run=run,
        losses=[step.loss for step in ledger.steps(run.id)],
        evaluations=latest_comparison(ledger, model),
        missing_facts=ledger.missing_facts(model),
    )


def latest_comparison(ledger: Ledger, model: str) -> list[RecordedEvaluation]:
    """Return the latest evaluation of a model (by id), after those of the systems that it was compared with."""
    own = ledger.evaluations(model)[-1:]
    compared_with = [name for evaluation in own for name in evaluation.settings.get("against", ())]
    return [*(evaluation for name in compared_with for evaluation in ledger.evaluations(name)[-1:]), *own]
