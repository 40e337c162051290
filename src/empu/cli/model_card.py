"""The model card of a specialist, as text for ``empu show`` and as JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from empu.ledger.card import ModelCard, latest_comparison, model_card
from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RecordedEvaluation, RecordedRun
from empu.store.stored_model import StoredModel


def card_lines(ledger_path: Path, model: StoredModel) -> list[tuple[str, str]]:
    """Return (name, value) lines for ``empu show``; empty for a model that was not tuned in this store."""
    card = _read_card(ledger_path, model)
    if card is None:
        return []
    name, losses = card.lineage[0].name, card.losses
    files = "\n".join(
        f"{source.path}: {_format_splits(splits)}; licence {source.licence}; {tagged(source.sha256[:16])}…"
        for source, splits in card.sources
    )
    missing = "\n".join(fact.sentence() for fact in card.missing_facts)
    return [
        ("made from", " ← ".join(f"{model.name} ({tagged(model.id[:12])}…)" for model in card.lineage)),
        ("rows", files),
        ("excluded", f"{card.excluded_rows:,} rows; for the reason of each: empu trace {name}"),
        ("run", _format_run(card.run)),
        ("losses", f"{len(losses):,} steps, from {losses[0]:.3f} to {losses[-1]:.3f}" if losses else "none recorded"),
        *_format_comparison(card.evaluations),
        ("not known", missing or "nothing; every fact that the ledger records is known"),
        ("how to repeat", f"seed {card.run.seed}, recipe {_format_recipe(card.run)}"),
    ]


def card_document(ledger_path: Path, model: StoredModel) -> dict[str, Any] | None:
    """Return the card for ``empu show --json``; ``None`` for a model that was not tuned in this store."""
    card = _read_card(ledger_path, model)
    if card is None:
        return None
    return card.to_json() | {
        "losses": card.losses,
        "scores": [
            {
                "model": evaluation.model,
                "split": evaluation.split,
                "settings": evaluation.settings,
                "metrics": {name: dataclasses.asdict(metric) for name, metric in evaluation.metrics.items()},
            }
            for evaluation in card.evaluations
        ],
        "not_known": [fact.sentence() for fact in card.missing_facts],
    }


def comparison_lines(ledger_path: Path, model: StoredModel) -> list[tuple[str, str]]:
    """Return the latest comparison of a model as (name, value) lines; empty if none is recorded."""
    with Ledger.open(ledger_path) as ledger:
        return _format_comparison(latest_comparison(ledger, model.record.id))


def _read_card(ledger_path: Path, model: StoredModel) -> ModelCard | None:
    if model.record.source.kind != "tuned" or not ledger_path.is_file():
        return None
    with Ledger.open(ledger_path) as ledger:
        return model_card(ledger, model.record.id)


def _format_comparison(evaluations: list[RecordedEvaluation]) -> list[tuple[str, str]]:
    if not evaluations:
        return []
    own = evaluations[-1]
    lines = [own.settings["sentence"]] if own.settings.get("sentence") else []
    for evaluation in evaluations:
        metrics = ", ".join(f"{name} {metric.percent()}" for name, metric in evaluation.metrics.items())
        name, duration_ms = evaluation.settings.get("name", evaluation.model), evaluation.settings["ms_per_answer"]
        lines.append(f"{name}: {metrics}, {duration_ms:.1f} ms")
    lines += own.settings.get("ensemble", {}).get("sentences", [])
    if "out_of_scope" in own.settings:
        lines.append(own.settings["out_of_scope"]["sentence"])
    rows = next(iter(own.metrics.values())).rows
    return [(f"on {rows:,} held-out rows", "\n".join(lines))]


def _format_splits(splits: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in splits.items())


def _format_run(run: RecordedRun) -> str:
    end = f"{run.status} {run.ended_at}" if run.status else "did not end"
    resumes = f", resumed {run.attempts - 1} times" if run.attempts > 1 else ""
    machine = f"{run.machine.get('processor')}, {run.machine.get('cores')} cores, torch {run.machine.get('torch')}"
    return f"{run.started_at}, {end}{resumes}\non {machine}\nby empu {run.code_version}"


def _format_recipe(run: RecordedRun) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.recipe.items() if value is not None)
