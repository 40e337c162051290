"""The facts about a specialist that its documents state, read from the ledger and the store alone.

The card, the bills of materials and the signed statement all come from this one document.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from empu.errors import UsageError
from empu.ledger.card import ModelCard, model_card
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RecordedEvaluation
from empu.ledger.records import UNKNOWN, RecordedModel
from empu.store.store import Store
from empu.store.stored_model import StoredModel
from empu.trust.licence_terms import licence_id
from empu.trust.members import LANGUAGE_MODEL_ALONE, read_members

Facts = dict[str, Any]
LEDGER_HEAD = "ledger_head"


def read_facts(store: Store, model: StoredModel) -> Facts:
    """Return the facts about a specialist as plain JSON values.

    Raises :class:`~empu.errors.UsageError` for a model that was not tuned in this store.
    """
    name = model.name or model.record.id[:12]
    if model.record.source.kind == "tuned" and store.ledger_path.is_file():
        with Ledger.open(store.ledger_path) as ledger:
            card = model_card(ledger, model.record.id)
            if card is not None:
                return _facts(store, model, name, card) | {LEDGER_HEAD: ledger.head()}
    raise UsageError(f"{name} was not tuned in this store, so the ledger holds nothing to write about it.")


def _facts(store: Store, model: StoredModel, name: str, card: ModelCard) -> Facts:
    record, run = model.record, card.run
    members = read_members(store.home, model)
    exported = LANGUAGE_MODEL_ALONE if members.names else None
    not_known = [fact.sentence() for fact in card.missing_facts]
    if members.encoder is not None and members.encoder_licence == UNKNOWN:
        not_known.append(f"The licence of the text encoder {members.encoder} is not known.")
    return {
        "name": name,
        "id": tagged(record.id),
        "format": record.format,
        "architecture": record.architecture,
        "trained_parameters": record.parameters,
        "licence": licence_id(record.licence.id),
        "added_at": record.added_at,
        "empu_version": record.empu_version,
        "files": [dataclasses.asdict(file) for file in record.files],
        "base_models": [_base(store, base) for base in card.lineage[1:]],
        "data_files": [
            {
                "file": Path(source.path).name,
                "sha256": source.sha256,
                "bytes": source.size,
                "licence": licence_id(source.licence),
                "rows": rows,
            }
            for source, rows in card.sources
        ],
        "dataset": run.dataset,
        "excluded_rows": dict(sorted(card.exclusion_reasons.items())),
        "run": {
            "id": run.id,
            "method": run.recipe.get("method"),
            "recipe": run.recipe,
            "seed": run.seed,
            "code": run.code_version,
            "machine": run.machine,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "status": run.status,
            "steps": len(card.losses),
            "first_loss": card.losses[0] if card.losses else None,
            "last_loss": card.losses[-1] if card.losses else None,
        },
        "members": list(members.names),
        "encoder": members.encoder,
        "encoder_licence": licence_id(members.encoder_licence),
        "evaluations": [_evaluation(evaluation, record.id, name, exported) for evaluation in card.evaluations],
        "not_known": not_known,
    }


def _base(store: Store, base: RecordedModel) -> Facts:
    stored = store.find(base.id)
    record = stored.record if stored is not None else None
    return {
        "name": base.name,
        "title": record.title if record is not None else None,
        "id": tagged(base.id),
        "licence": licence_id(base.licence),
        "parameters": record.parameters if record is not None else None,
        "source": record.source.address if record is not None and record.source.kind != "path" else None,
        "hub_names": list(record.base_models) if record is not None else [],
        "files": [dataclasses.asdict(file) for file in base.files],
        "disclosed": dict(base.disclosed),
    }


def _evaluation(evaluation: RecordedEvaluation, model: str, name: str, exported: str | None) -> Facts:
    """Return one evaluation. ``exported`` names the system that exported files are; ``None`` for the model itself."""
    is_own = evaluation.model == model
    return {
        "system": name if is_own else evaluation.settings.get("name", evaluation.model),
        "is_this_model": is_own,
        "is_exported": is_own if exported is None else evaluation.settings.get("name") == exported,
        "split": evaluation.split,
        "metrics": {key: dataclasses.asdict(metric) for key, metric in sorted(evaluation.metrics.items())},
        "conclusion": evaluation.settings.get("sentence") if is_own else None,
        "at": evaluation.at,
    }
