"""A specialist's card, from the ledger alone: lineage, rows, licences, scores, what is not known, how to repeat it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from empu.ledger.hashing import tagged
from empu.ledger.ledger import Ledger
from empu.ledger.queries import RunRecord, Score
from empu.store.store import StoredModel


def card_facts(ledger_path: Path, model: StoredModel) -> list[tuple[str, str]]:
    """``name  value`` lines for ``empu show``; empty for a model that no run of this store made."""
    if model.record.source.kind != "tuned" or not ledger_path.is_file():
        return []
    with Ledger.open(ledger_path) as ledger:
        recorded = ledger.model(model.record.id)
        if recorded.run is None:
            return []
        run = ledger.run(recorded.run)
        counts = "\n".join(
            f"{source.path}: {_parts(parts)}; licence {source.licence}; sha256:{source.sha256[:16]}…"
            for source, parts in ledger.sources(recorded.name)
        )
        left_out = sum(1 for _ in ledger.left_out(run.dataset)) if run.dataset else 0
        losses = [step.loss for step in ledger.steps(run.id)]
        facts = [
            ("made from", " ← ".join(f"{one.name} ({tagged(one.id[:12])}…)" for one in ledger.lineage(recorded.name))),
            ("rows", counts),
            ("left out", f"{left_out:,} rows, each with its reason: empu trace {recorded.name}"),
            ("run", _run(run)),
            (
                "losses",
                f"{len(losses):,} steps, from {losses[0]:.3f} to {losses[-1]:.3f}" if losses else "none recorded",
            ),
        ]
        facts += _scores(ledger, recorded.id)
        unknown = ledger.unknowns(recorded.name)
        facts.append(("not known", "\n".join(unknown) or "nothing that the ledger asks for"))
        facts.append(("how to repeat", f"seed {run.seed}, recipe {_recipe(run)}"))
        return facts


def card_document(ledger_path: Path, model: StoredModel) -> dict[str, Any] | None:
    """The same for ``empu show --json``."""
    if model.record.source.kind != "tuned" or not ledger_path.is_file():
        return None
    with Ledger.open(ledger_path) as ledger:
        recorded = ledger.model(model.record.id)
        if recorded.run is None:
            return None
        run = ledger.run(recorded.run)
        return {
            "lineage": [
                {"name": one.name, "id": tagged(one.id), "licence": one.licence}
                for one in ledger.lineage(recorded.name)
            ],
            "sources": [
                {**dataclasses.asdict(source), "rows": parts} for source, parts in ledger.sources(recorded.name)
            ],
            "left_out": sum(1 for _ in ledger.left_out(run.dataset)) if run.dataset else 0,
            "run": dataclasses.asdict(run),
            "losses": [step.loss for step in ledger.steps(run.id)],
            "scores": [
                {
                    "model": score.model,
                    "split": score.split,
                    "settings": score.settings,
                    "metrics": {name: dataclasses.asdict(metric) for name, metric in score.metrics.items()},
                }
                for score in _all_scores(ledger, recorded.id)
            ],
            "not_known": ledger.unknowns(recorded.name),
        }


def _all_scores(ledger: Ledger, model: str) -> list[Score]:
    own = ledger.scores(model)[-1:]
    others = [name for score in own for name in score.settings.get("against", ())]
    return [*(score for name in others for score in ledger.scores(name)[-1:]), *own]


def score_facts(ledger_path: Path, model: StoredModel) -> list[tuple[str, str]]:
    """How it compared when it was made; empty where nothing is recorded."""
    with Ledger.open(ledger_path) as ledger:
        return _scores(ledger, model.record.id)


def _scores(ledger: Ledger, model: str) -> list[tuple[str, str]]:
    found = _all_scores(ledger, model)
    if not found:
        return []
    lines, own = [], found[-1]
    for score in found:
        metrics = ", ".join(f"{name} {metric.percent()}" for name, metric in score.metrics.items())
        lines.append(f"{score.settings.get('name', score.model)}: {metrics}, {score.settings['ms_per_answer']:.1f} ms")
    rows = next(iter(own.metrics.values())).rows
    said = own.settings.get("sentence", "")
    if "out_of_scope" in own.settings:
        lines.append(own.settings["out_of_scope"]["sentence"])
    return [(f"on {rows:,} held-out rows", "\n".join([said, *lines] if said else lines))]


def _parts(parts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in parts.items())


def _run(run: RunRecord) -> str:
    ended = f"{run.status} {run.ended_at}" if run.status else "did not end"
    again = f", resumed {run.attempts - 1} times" if run.attempts > 1 else ""
    on = f"{run.machine.get('processor')}, {run.machine.get('cores')} cores, torch {run.machine.get('torch')}"
    return f"{run.started_at}, {ended}{again}\non {on}\nby empu {run.code_version}"


def _recipe(run: RunRecord) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.recipe.items() if value is not None)
