"""From a row to the models that met it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from empu.errors import StoreError
from empu.ledger.database import Database
from empu.ledger.records import TRAIN, Source
from empu.ledger.row_hash import text_digest


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that a data set does not hold, and why."""

    dataset: str
    source: Source
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A model that met a row: trained on it (split ``train``), was steered by it (``dev``), or was
    measured on it (``test``).

    ``by`` is the model whose run met the row: the model itself, or one that it was made from.
    """

    model: str
    name: str
    by: str
    run: str
    dataset: str
    split: str
    source: Source
    number: int
    row_id: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The answer to "which models saw this row?"."""

    rows: tuple[str, ...]
    """Ids of the rows that match the question."""
    sightings: tuple[Sighting, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the models with the row in their weights, in the order of the sightings, each once."""
        return tuple(dict.fromkeys(seen.name for seen in self.sightings if seen.split == TRAIN))


def by_id(database: Database, row_id: str) -> Trace:
    """Who saw the row with this id (hex)? Raises :class:`~empu.errors.StoreError` when that is no id."""
    try:
        wanted = bytes.fromhex(row_id.removeprefix("sha256:"))
    except ValueError:
        raise StoreError(f"{row_id!r} is no row id; give the 64 hexadecimal digits that empu shows.") from None
    return _trace(database, "r.id = ?", (wanted,), "e.row_id = ?", (wanted,))


def by_text(database: Database, text: str) -> Trace:
    """Who saw a row that has this text as one of its fields or messages? White space does not matter."""
    values = (text_digest(text),)
    found = "r.key IN (SELECT row FROM row_text WHERE sha256 = ?)"
    return _trace(database, found, values, f"e.row_id IN (SELECT id FROM row r WHERE {found})", values)


def by_place(database: Database, path: str, number: int) -> Trace:
    """Who saw the row ``number`` of a file? ``path`` is as it was given then, or the end of it."""
    values = (path, "/" + path, "/" + path, number)
    where = "(s.path = ? OR substr(s.path, -length(?)) = ?) AND {}.number = ?"
    return _trace(database, where.format("m"), values, where.format("e"), values)


def _trace(
    database: Database, rows: str, values: tuple[object, ...], left_out: str, other: tuple[object, ...]
) -> Trace:
    found = list(
        database.each(
            "SELECT DISTINCT lower(hex(r.id)), m.split, s.path, s.sha256, s.size, s.licence, m.number, d.id, "
            "run.id, model.id, model.name FROM row r JOIN member m ON m.row = r.key "
            "JOIN source s ON s.key = m.source JOIN dataset d ON d.key = m.dataset "
            "LEFT JOIN run ON run.dataset = d.key LEFT JOIN model ON model.run = run.key "
            f"WHERE {rows} ORDER BY model.key, m.dataset, m.position",
            values,
        )
    )
    sightings: list[Sighting] = []
    for row_id, split, path, sha256, size, licence, number, dataset, run, model, name in found:
        if model is None:
            continue
        for heir, heir_name in [(model, name), *_descendants(database, model)]:
            source = Source(path, sha256, size, licence)
            sightings.append(Sighting(heir, heir_name, model, run, dataset, split, source, number, row_id))
    excluded = database.each(
        "SELECT d.id, s.path, s.sha256, s.size, s.licence, e.number, e.reason FROM exclusion e "
        f"JOIN source s ON s.key = e.source JOIN dataset d ON d.key = e.dataset WHERE {left_out} "
        "ORDER BY e.dataset, e.position",
        other,
    )
    return Trace(
        tuple(dict.fromkeys(row[0] for row in found)),
        tuple(dict.fromkeys(sightings)),
        tuple(LeftOut(d, Source(p, h, z, li), n, why) for d, p, h, z, li, n, why in excluded),
    )


def _descendants(database: Database, model: str) -> list[tuple[Any, ...]]:
    """(id, name) of every model that was made from ``model``, at any remove."""
    rows = database.each(
        "WITH RECURSIVE heir (id) AS (SELECT id FROM model WHERE parent = ?1 UNION "
        "SELECT m.id FROM model m JOIN heir h ON m.parent = h.id) "
        "SELECT m.id, m.name FROM model m JOIN heir h ON m.id = h.id WHERE m.id != ?1 ORDER BY m.key",
        (model,),
    )
    return list(rows)
