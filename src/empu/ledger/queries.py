"""The questions that the ledger answers: who saw this row, what is in this model, where does it come from, what is
not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from empu.errors import StoreError
from empu.ledger import lineage as row_lineage
from empu.ledger.database import Database
from empu.ledger.hashing import FileId
from empu.ledger.records import UNKNOWN, Metric, Model, Source, Step


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands in a data set."""

    row_id: str
    fields: dict[str, Any]
    split: str
    source: Source
    number: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as it was recorded. ``status`` is ``None`` while it has not ended."""

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
class Score:
    """An evaluation as it was recorded."""

    model: str
    dataset: str | None
    split: str
    metrics: dict[str, Metric]
    settings: dict[str, Any]
    machine: dict[str, Any]
    at: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that is not known of a model: which thing, of what, and more where the sentence needs it."""

    what: str
    about: str
    more: str = ""

    def sentence(self) -> str:
        """For people."""
        return _UNKNOWN[self.what].format(about=self.about, more=self.more)


_UNKNOWN = {
    "licence": "The licence of {about} is not known.",
    "data": "Nothing is disclosed about the data that {about} was trained on.",
    "ancestor": "{about} was made from {more}, which this ledger does not know.",
    "rows": "The rows that {about} was tuned on were not recorded.",
    "end": "The run of {about} did not record its end.",
    "base": "Which model {about} was made from was not recorded.",
    "scores": "{about} was not evaluated.",
}


class Questions:
    """Everything that can be asked; nothing here writes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def trace_row(self, row_id: str) -> row_lineage.Trace:
        """Who saw the row with this id (hex)? Raises :class:`~empu.errors.StoreError` when that is no id."""
        return row_lineage.by_id(self._db, row_id)

    def trace_text(self, text: str) -> row_lineage.Trace:
        """Who saw a row that has this text as one of its fields or messages? White space does not matter."""
        return row_lineage.by_text(self._db, text)

    def trace_place(self, path: str, number: int) -> row_lineage.Trace:
        """Who saw the row ``number`` of a file? ``path`` is as it was given then, or the end of it."""
        return row_lineage.by_place(self._db, path, number)

    def model(self, name: str) -> Model:
        """The newest model of that name, or the one whose id begins so (8 digits at least).

        Raises :class:`~empu.errors.StoreError` when there is none, or more than one.
        """
        key = self._db.first("SELECT max(key) FROM model WHERE name = ?", (name,))
        if key is None or key[0] is None:
            key = self._db.first("SELECT max(key) FROM model WHERE id = ?", (self._full_id(name),))
        assert key is not None
        row = self._db.one(
            "SELECT m.id, m.name, m.files, m.parent, r.id, m.licence, m.disclosed FROM model m "
            "LEFT JOIN run r ON r.key = m.run WHERE m.key = ?",
            (key[0],),
        )
        files = tuple(FileId(**file) for file in json.loads(row[2]))
        return Model(row[0], row[1], files, row[3], row[4], row[5], json.loads(row[6]))

    def _full_id(self, start: str) -> str:
        digits = start.removeprefix("sha256:").lower()
        ids: set[str] = set()
        if len(digits) >= 8 and set(digits) <= set("0123456789abcdef"):
            ids = {row[0] for row in self._db.each("SELECT id FROM model WHERE id GLOB ?", (digits + "*",))}
        if not ids:
            raise StoreError(f"The ledger {self._db.path} has no model {start!r}; `empu models` lists what there is.")
        if len(ids) > 1:
            raise StoreError(f"{len(ids)} models begin with {start!r}; give more digits.")
        return ids.pop()

    def lineage(self, name: str) -> list[Model]:
        """The model and what it was made from, nearest first, as far as the ledger knows."""
        line = [self.model(name)]
        while line[-1].parent is not None:
            known = self._db.first("SELECT id FROM model WHERE id = ?", (line[-1].parent,))
            if known is None or any(known[0] == model.id for model in line):
                break
            line.append(self.model(known[0]))
        return line

    def run(self, run: str) -> RunRecord:
        """A run by its id (hex)."""
        row = self._db.first(
            "SELECT r.id, r.recipe, r.seed, r.code_version, r.base, d.id, r.row_order, r.machine, r.started_at, e.at, "
            "e.status, e.facts, (SELECT count(*) FROM attempt a WHERE a.run = r.key) FROM run r "
            "LEFT JOIN dataset d ON d.key = r.dataset LEFT JOIN run_end e ON e.run = r.key WHERE r.id = ?",
            (run,),
        )
        if row is None:
            raise StoreError(f"The ledger {self._db.path} has no run {run[:12]}; it may have been made elsewhere.")
        return RunRecord(
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

    def steps(self, run: str) -> Iterator[Step]:
        """The steps that led to the weights: of each attempt those up to where the next one took over."""
        rows = self._db.each(
            "SELECT s.number, s.loss, s.facts FROM step s JOIN run r ON r.key = s.run WHERE r.id = ? AND s.number <= "
            "(SELECT coalesce(min(a.from_step), 9223372036854775807) FROM attempt a WHERE a.run = s.run "
            "AND a.number > s.attempt) ORDER BY s.number",
            (run,),
        )
        for number, loss, facts in rows:
            yield Step(number, loss, json.loads(facts))

    def rows(self, dataset: str, split: str | None = None) -> Iterator[Place]:
        """The rows of a data set in their order, of one part or of all."""
        found = self._db.each(
            "SELECT lower(hex(r.id)), r.content, m.split, s.path, s.sha256, s.size, s.licence, m.number FROM member m "
            "JOIN dataset d ON d.key = m.dataset JOIN row r ON r.key = m.row JOIN source s ON s.key = m.source "
            "WHERE d.id = ?1 AND (?2 IS NULL OR m.split = ?2) ORDER BY m.position",
            (dataset, split),
        )
        for row_id, content, part, path, sha256, size, licence, number in found:
            fields = json.loads(content)
            yield Place(row_id, fields, part, Source(path, sha256, size, licence), number)

    def newest_parts(self, paths: Sequence[str]) -> dict[str, str]:
        """Row id (hex) -> part, in the newest data set with rows from files given as one of ``paths``; its rows from
        other files are not in it. Empty where there is none.
        """
        found = self._db.each(
            "SELECT lower(hex(r.id)), m.split FROM member m JOIN row r ON r.key = m.row "
            "WHERE m.source IN (SELECT key FROM source WHERE path IN (SELECT value FROM json_each(?1))) "
            "AND m.dataset = (SELECT max(dataset) FROM member JOIN source s ON s.key = source "
            "WHERE s.path IN (SELECT value FROM json_each(?1)))",
            (json.dumps(list(paths)),),
        )
        return dict(found)

    def left_out(self, dataset: str) -> Iterator[row_lineage.LeftOut]:
        """The rows that were kept out of a data set, each with its reason."""
        found = self._db.each(
            "SELECT s.path, s.sha256, s.size, s.licence, e.number, e.reason FROM exclusion e "
            "JOIN dataset d ON d.key = e.dataset JOIN source s ON s.key = e.source WHERE d.id = ? ORDER BY e.position",
            (dataset,),
        )
        for path, sha256, size, licence, number, reason in found:
            yield row_lineage.LeftOut(dataset, Source(path, sha256, size, licence), number, reason)

    def sources(self, name: str) -> list[tuple[Source, dict[str, int]]]:
        """The files behind a model and its ancestors, each with its number of rows per part."""
        counts: dict[Source, dict[str, int]] = {}
        for model in self.lineage(name):
            found = self._db.each(
                "SELECT s.path, s.sha256, s.size, s.licence, m.split, count(*) FROM member m "
                "JOIN source s ON s.key = m.source JOIN run r ON r.dataset = m.dataset WHERE r.id = ? "
                "GROUP BY s.key, m.split ORDER BY s.key, m.split",
                (model.run or "",),
            )
            for path, sha256, size, licence, split, count in found:
                parts = counts.setdefault(Source(path, sha256, size, licence), {})
                parts[split] = parts.get(split, 0) + count
        return list(counts.items())

    def scores(self, model: str, dataset: str | None = None) -> list[Score]:
        """The evaluations of a model (by id) or of a baseline (by name), oldest first."""
        found = self._db.each(
            "SELECT e.model, d.id, e.split, e.metrics, e.settings, e.machine, e.at FROM evaluation e "
            "LEFT JOIN dataset d ON d.key = e.dataset WHERE e.model = ?1 AND (?2 IS NULL OR d.id = ?2) ORDER BY e.key",
            (model, dataset),
        )
        return [
            Score(
                model=row[0],
                dataset=row[1],
                split=row[2],
                metrics={key: Metric(**value) for key, value in json.loads(row[3]).items()},
                settings=json.loads(row[4]),
                machine=json.loads(row[5]),
                at=row[6],
            )
            for row in found
        ]

    def unknowns(self, name: str) -> list[str]:
        """What is not known of a model, a sentence each. An empty list is a claim, so nothing here is left out."""
        return [one.sentence() for one in self.missing(name)]

    def missing(self, name: str) -> list[Unknown]:
        """The same, for those who say it in another language."""
        said: list[Unknown] = []
        line = self.lineage(name)
        for model in line:
            if model.licence == UNKNOWN:
                said.append(Unknown("licence", model.name))
            if model.run is None and not model.disclosed:
                said.append(Unknown("data", model.name))
            if model.run is not None:
                said.extend(self._missing_of_run(model, self.run(model.run)))
        if line[-1].parent is not None:
            said.append(Unknown("ancestor", line[-1].name, line[-1].parent[:12]))
        for source, _ in self.sources(name):
            if source.licence == UNKNOWN:
                said.append(Unknown("licence", source.path))
        if not self.scores(line[0].id):
            said.append(Unknown("scores", line[0].name))
        return said

    def _missing_of_run(self, model: Model, run: RunRecord) -> Iterator[Unknown]:
        if run.dataset is None:
            yield Unknown("rows", model.name)
        if run.status is None:
            yield Unknown("end", model.name)
        if model.parent is None:
            yield Unknown("base", model.name)
