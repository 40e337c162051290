"""Trace a row to the models that were trained, validated or tested on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from empu.errors import StoreError
from empu.ledger.database import Database
from empu.ledger.records import TRAIN, SourceFile
from empu.ledger.row_hash import text_digest


@dataclass(frozen=True, slots=True)
class ExcludedRow:
    """A row that a data set excludes, and the reason."""

    dataset: str
    source: SourceFile
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One use of a row by a model: in training (split ``train``), validation (``dev``) or testing (``test``).

    ``by`` is the id of the model whose run used the row: the model itself or one of its ancestors.
    """

    model: str
    name: str
    by: str
    run: str
    dataset: str
    split: str
    source: SourceFile
    number: int
    row_id: str


@dataclass(frozen=True, slots=True)
class RowTrace:
    """The models that used a row, and the data sets that exclude it."""

    row_ids: tuple[str, ...]
    """Ids of the rows that match the query."""
    occurrences: tuple[Occurrence, ...]
    excluded_rows: tuple[ExcludedRow, ...]

    @property
    def trained_models(self) -> tuple[str, ...]:
        """Names of the models that were trained on the row, each once, in the order of the occurrences."""
        return tuple(dict.fromkeys(use.name for use in self.occurrences if use.split == TRAIN))

    def to_json(self) -> dict[str, Any]:
        """Return the trace under the property names of ``empu trace --json``."""
        return {
            "rows": list(self.row_ids),
            "sightings": [asdict(use) for use in self.occurrences],
            "left_out": [asdict(row) for row in self.excluded_rows],
            "trained": list(self.trained_models),
        }


def trace_id(database: Database, row_id: str) -> RowTrace:
    """Trace the row with this id (hex). Raises :class:`~empu.errors.StoreError` if it is not a valid id."""
    try:
        digest = bytes.fromhex(row_id.removeprefix("sha256:"))
    except ValueError:
        raise StoreError(f"{row_id!r} is not a row id; give the 64 hexadecimal digits that empu shows.") from None
    return _trace(database, "r.id = ?", (digest,), "e.row_id = ?", (digest,))


def trace_text(database: Database, text: str) -> RowTrace:
    """Trace the rows with this text as one of their fields or messages. White space is ignored."""
    values = (text_digest(text),)
    condition = "r.key IN (SELECT row FROM row_text WHERE sha256 = ?)"
    return _trace(database, condition, values, f"e.row_id IN (SELECT id FROM row r WHERE {condition})", values)


def trace_position(database: Database, path: str, number: int) -> RowTrace:
    """Trace row ``number`` of a file. ``path`` is the path that the user gave then, or its last components."""
    values = (path, "/" + path, "/" + path, number)
    condition = "(s.path = ? OR substr(s.path, -length(?)) = ?) AND {}.number = ?"
    return _trace(database, condition.format("m"), values, condition.format("e"), values)


def _trace(
    database: Database,
    row_condition: str,
    row_values: tuple[object, ...],
    exclusion_condition: str,
    exclusion_values: tuple[object, ...],
) -> RowTrace:
    rows = list(
        database.iterate(
            "SELECT DISTINCT lower(hex(r.id)), m.split, s.path, s.sha256, s.size, s.licence, m.number, d.id, "
            "run.id, model.id, model.name FROM row r JOIN member m ON m.row = r.key "
            "JOIN source s ON s.key = m.source JOIN dataset d ON d.key = m.dataset "
            "LEFT JOIN run ON run.dataset = d.key LEFT JOIN model ON model.run = run.key "
            f"WHERE {row_condition} ORDER BY model.key, m.dataset, m.position",
            row_values,
        )
    )
    occurrences: list[Occurrence] = []
    for row_id, split, path, sha256, size, licence, number, dataset, run, model, name in rows:
        if model is None:
            continue
        for user, user_name in [(model, name), *_descendants(database, model)]:
            source = SourceFile(path, sha256, size, licence)
            occurrences.append(Occurrence(user, user_name, model, run, dataset, split, source, number, row_id))
    excluded = database.iterate(
        "SELECT d.id, s.path, s.sha256, s.size, s.licence, e.number, e.reason FROM exclusion e "
        f"JOIN source s ON s.key = e.source JOIN dataset d ON d.key = e.dataset WHERE {exclusion_condition} "
        "ORDER BY e.dataset, e.position",
        exclusion_values,
    )
    return RowTrace(
        tuple(dict.fromkeys(row[0] for row in rows)),
        tuple(dict.fromkeys(occurrences)),
        tuple(
            ExcludedRow(dataset, SourceFile(path, sha256, size, licence), number, reason)
            for dataset, path, sha256, size, licence, number, reason in excluded
        ),
    )


def _descendants(database: Database, model: str) -> list[tuple[Any, ...]]:
    """Return (id, name) of every model derived from ``model``, directly or not."""
    rows = database.iterate(
        "WITH RECURSIVE descendant (id) AS (SELECT id FROM model WHERE parent = ?1 UNION "
        "SELECT m.id FROM model m JOIN descendant d ON m.parent = d.id) "
        "SELECT m.id, m.name FROM model m JOIN descendant d ON m.id = d.id WHERE m.id != ?1 ORDER BY m.key",
        (model,),
    )
    return list(rows)
