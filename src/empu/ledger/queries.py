"""Queries of the ledger: the rows behind a model, its lineage, its runs, its evaluations, and what is not known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from empu.errors import StoreError
from empu.ledger.database import Database
from empu.ledger.hashing import PREFIX, FileId
from empu.ledger.lineage import ExcludedRow, RowTrace, trace_id, trace_position, trace_text
from empu.ledger.records import UNKNOWN, DocumentEvent, Metric, RecordedModel, SourceFile, TrainingStep

MIN_ID_DIGITS = 8
"""Shortest prefix of an id that finds a model."""


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """One row of a data set, and where it came from."""

    row_id: str
    fields: dict[str, Any]
    split: str
    source: SourceFile
    number: int


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A tuning run. ``status`` is ``None`` until it ends."""

    id: str
    recipe: dict[str, Any]
    seed: int
    code_version: str
    base: str
    dataset: str | None
    row_order: str
    machine: dict[str, Any]
    started_at: str
    ended_at: str | None
    status: str | None
    facts: dict[str, Any]
    attempts: int


@dataclass(frozen=True, slots=True)
class RecordedEvaluation:
    """An evaluation of a model or a baseline."""

    model: str
    dataset: str | None
    split: str
    metrics: dict[str, Metric]
    settings: dict[str, Any]
    machine: dict[str, Any]
    at: str


@dataclass(frozen=True, slots=True)
class MissingFact:
    """A fact that the ledger does not know: its kind, its subject, and a detail for the sentence."""

    what: str
    about: str
    more: str = ""

    def sentence(self) -> str:
        """Return the fact as an English sentence."""
        return _MISSING_FACTS[self.what].format(about=self.about, more=self.more)


_MISSING_FACTS = {
    "licence": "The licence of {about} is not known.",
    "data": "Nothing is disclosed about the data that {about} was trained on.",
    "ancestor": "{about} was made from {more}, which this ledger does not know.",
    "rows": "The rows that {about} was tuned on were not recorded.",
    "end": "The end of the run of {about} was not recorded.",
    "base": "The base model of {about} was not recorded.",
    "scores": "{about} was not evaluated.",
}


class LedgerQueries:
    """Read access to a ledger."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def document_events(self, collection: str) -> list[tuple[DocumentEvent, str]]:
        """Return what happened to the documents of a collection, oldest first, each with its time."""
        rows = self._db.iterate(
            "SELECT collection, action, address, sha256, size, licence, added_by, at FROM document "
            "WHERE collection = ? ORDER BY key",
            (collection,),
        )
        return [(DocumentEvent(*row[:-1]), row[-1]) for row in rows]

    def trace_row(self, row_id: str) -> RowTrace:
        """Trace the row with this id (hex). Raises :class:`~empu.errors.StoreError` if it is not a valid id."""
        return trace_id(self._db, row_id)

    def trace_text(self, text: str) -> RowTrace:
        """Trace the rows with this text as one of their fields or messages. White space is ignored."""
        return trace_text(self._db, text)

    def trace_position(self, path: str, number: int) -> RowTrace:
        """Trace row ``number`` of a file. ``path`` is the path that the user gave then, or its last components."""
        return trace_position(self._db, path, number)

    def model(self, name: str) -> RecordedModel:
        """Return the newest model with this name, or the one whose id starts with it (at least 8 digits).

        Raises :class:`~empu.errors.StoreError` if there is none or more than one.
        """
        key = self._db.fetch_first("SELECT max(key) FROM model WHERE name = ?", (name,))
        if key is None or key[0] is None:
            key = self._db.fetch_first("SELECT max(key) FROM model WHERE id = ?", (self._complete_id(name),))
        assert key is not None
        row = self._db.fetch_one(
            "SELECT m.id, m.name, m.files, m.parent, r.id, m.licence, m.disclosed FROM model m "
            "LEFT JOIN run r ON r.key = m.run WHERE m.key = ?",
            (key[0],),
        )
        files = tuple(FileId(**file) for file in json.loads(row[2]))
        return RecordedModel(row[0], row[1], files, row[3], row[4], row[5], json.loads(row[6]))

    def _complete_id(self, prefix: str) -> str:
        digits = prefix.removeprefix(PREFIX).lower()
        ids: set[str] = set()
        if len(digits) >= MIN_ID_DIGITS and set(digits) <= set("0123456789abcdef"):
            ids = {row[0] for row in self._db.iterate("SELECT id FROM model WHERE id GLOB ?", (digits + "*",))}
        if not ids:
            raise StoreError(f"The ledger {self._db.path} has no model {prefix!r}; `empu models` lists the models.")
        if len(ids) > 1:
            raise StoreError(f"{len(ids)} models have ids that start with {prefix!r}; give more digits.")
        return ids.pop()

    def lineage(self, name: str) -> list[RecordedModel]:
        """Return the model and its known ancestors, nearest first."""
        models = [self.model(name)]
        while (parent := models[-1].parent) is not None:
            known = self._db.fetch_first("SELECT id FROM model WHERE id = ?", (parent,))
            if known is None or any(parent == model.id for model in models):
                break
            models.append(self.model(parent))
        return models

    def run(self, run: str) -> RecordedRun:
        """Return a run by its id (hex)."""
        row = self._db.fetch_first(
            "SELECT r.id, r.recipe, r.seed, r.code_version, r.base, d.id, r.row_order, r.machine, r.started_at, e.at, "
            "e.status, e.facts, (SELECT count(*) FROM attempt a WHERE a.run = r.key) FROM run r "
            "LEFT JOIN dataset d ON d.key = r.dataset LEFT JOIN run_end e ON e.run = r.key WHERE r.id = ?",
            (run,),
        )
        if row is None:
            raise StoreError(f"The ledger {self._db.path} has no run {run[:12]}; another ledger may have it.")
        return RecordedRun(
            id=row[0],
            recipe=json.loads(row[1]),
            seed=row[2],
            code_version=row[3],
            base=row[4],
            dataset=row[5],
            row_order=row[6],
            machine=json.loads(row[7]),
            started_at=row[8],
            ended_at=row[9],
            status=row[10],
            facts=json.loads(row[11]) if row[11] is not None else {},
            attempts=row[12],
        )

    def run_of_model(self, model: str) -> RecordedRun | None:
        """Return the run that made a model (by id); ``None`` if the model is unknown here or was not tuned here."""
        try:
            run = self.model(model).run
        except StoreError:
            return None
        return self.run(run) if run is not None else None

    def steps(self, run: str) -> Iterator[TrainingStep]:
        """Yield the steps that led to the weights: those of each attempt, up to where the next attempt resumed."""
        rows = self._db.iterate(
            "SELECT s.number, s.loss, s.facts FROM step s JOIN run r ON r.key = s.run WHERE r.id = ? AND s.number <= "
            "(SELECT coalesce(min(a.from_step), 9223372036854775807) FROM attempt a WHERE a.run = s.run "
            "AND a.number > s.attempt) ORDER BY s.number",
            (run,),
        )
        for number, loss, facts in rows:
            yield TrainingStep(number, loss, json.loads(facts))

    def rows(self, dataset: str, split: str | None = None) -> Iterator[RecordedRow]:
        """Yield the rows of a data set in order, of one split or of all."""
        rows = self._db.iterate(
            "SELECT lower(hex(r.id)), r.content, m.split, s.path, s.sha256, s.size, s.licence, m.number FROM member m "
            "JOIN dataset d ON d.key = m.dataset JOIN row r ON r.key = m.row JOIN source s ON s.key = m.source "
            "WHERE d.id = ?1 AND (?2 IS NULL OR m.split = ?2) ORDER BY m.position",
            (dataset, split),
        )
        for row_id, content, row_split, path, sha256, size, licence, number in rows:
            source = SourceFile(path, sha256, size, licence)
            yield RecordedRow(row_id, json.loads(content), row_split, source, number)

    def newest_splits(self, paths: Sequence[str]) -> dict[str, str]:
        """Map row id (hex) to split, for the rows from ``paths`` in the newest data set that has any.

        Rows of that data set from other files are not included. Empty if there is no such data set.
        """
        rows = self._db.iterate(
            "SELECT lower(hex(r.id)), m.split FROM member m JOIN row r ON r.key = m.row "
            "WHERE m.source IN (SELECT key FROM source WHERE path IN (SELECT value FROM json_each(?1))) "
            "AND m.dataset = (SELECT max(dataset) FROM member JOIN source s ON s.key = source "
            "WHERE s.path IN (SELECT value FROM json_each(?1)))",
            (json.dumps(list(paths)),),
        )
        return dict(rows)

    def excluded_rows(self, dataset: str) -> Iterator[ExcludedRow]:
        """Yield the rows that a data set excludes, with their reasons."""
        rows = self._db.iterate(
            "SELECT s.path, s.sha256, s.size, s.licence, e.number, e.reason FROM exclusion e "
            "JOIN dataset d ON d.key = e.dataset JOIN source s ON s.key = e.source WHERE d.id = ? ORDER BY e.position",
            (dataset,),
        )
        for path, sha256, size, licence, number, reason in rows:
            yield ExcludedRow(dataset, SourceFile(path, sha256, size, licence), number, reason)

    def sources(self, name: str) -> list[tuple[SourceFile, dict[str, int]]]:
        """Return the files behind a model and its ancestors, each with its number of rows per split."""
        counts: dict[SourceFile, dict[str, int]] = {}
        for model in self.lineage(name):
            rows = self._db.iterate(
                "SELECT s.path, s.sha256, s.size, s.licence, m.split, count(*) FROM member m "
                "JOIN source s ON s.key = m.source JOIN run r ON r.dataset = m.dataset WHERE r.id = ? "
                "GROUP BY s.key, m.split ORDER BY s.key, m.split",
                (model.run or "",),
            )
            for path, sha256, size, licence, split, count in rows:
                splits = counts.setdefault(SourceFile(path, sha256, size, licence), {})
                splits[split] = splits.get(split, 0) + count
        return list(counts.items())

    def evaluations(self, model: str, dataset: str | None = None) -> list[RecordedEvaluation]:
        """Return the evaluations of a model (by id) or of a baseline (by name), oldest first."""
        rows = self._db.iterate(
            "SELECT e.model, d.id, e.split, e.metrics, e.settings, e.machine, e.at FROM evaluation e "
            "LEFT JOIN dataset d ON d.key = e.dataset WHERE e.model = ?1 AND (?2 IS NULL OR d.id = ?2) ORDER BY e.key",
            (model, dataset),
        )
        return [
            RecordedEvaluation(
                model=row[0],
                dataset=row[1],
                split=row[2],
                metrics={key: Metric(**value) for key, value in json.loads(row[3]).items()},
                settings=json.loads(row[4]),
                machine=json.loads(row[5]),
                at=row[6],
            )
            for row in rows
        ]

    def missing_facts(self, name: str) -> list[MissingFact]:
        """Return everything that is not known of a model. An empty list claims that nothing is missing."""
        missing: list[MissingFact] = []
        models = self.lineage(name)
        for model in models:
            if model.licence == UNKNOWN:
                missing.append(MissingFact("licence", model.name))
            if model.run is None and not model.disclosed:
                missing.append(MissingFact("data", model.name))
            if model.run is not None:
                missing.extend(_missing_of_run(model, self.run(model.run)))
        if models[-1].parent is not None:
            missing.append(MissingFact("ancestor", models[-1].name, models[-1].parent[:12]))
        for source, _ in self.sources(name):
            if source.licence == UNKNOWN:
                missing.append(MissingFact("licence", source.path))
        if not self.evaluations(models[0].id):
            missing.append(MissingFact("scores", models[0].name))
        return missing


def _missing_of_run(model: RecordedModel, run: RecordedRun) -> Iterator[MissingFact]:
    if run.dataset is None:
        yield MissingFact("rows", model.name)
    if run.status is None:
        yield MissingFact("end", model.name)
    if model.parent is None:
        yield MissingFact("base", model.name)
