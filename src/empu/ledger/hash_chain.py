"""The chain of entries: each record is hashed together with the digest before it, so that a later edit shows.

A record's body is read back from the tables, never kept a second time. Verification reads all of them again. What a
chain cannot show is that its newest entries were cut off; for that, compare :func:`head` with one written elsewhere
(a card carries it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from empu.ledger.database import Database
from empu.ledger.hashing import canonical_json, content_id

GENESIS = "0" * 64
"""What stands before the first entry."""

Body = dict[str, Any]


def now() -> str:
    """The time, in UTC, as it is written: ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def append(database: Database, kind: str, key: str) -> None:
    """Chain the record ``key`` of ``kind``, which has just been written. Call it inside the same transaction."""
    body = BODIES[kind](database, key)
    assert body is not None, f"{kind} {key} was not written before it was chained"
    seq, previous = _last(database)
    digest_of_body, at = content_id(body), now()
    digest = link(previous, seq + 1, at, kind, key, digest_of_body)
    database.execute(
        "INSERT INTO entry (seq, at, kind, key, body, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (seq + 1, at, kind, key, digest_of_body, digest),
    )


def link(previous: str, seq: int, at: str, kind: str, key: str, body: str) -> str:
    """The digest of an entry, in hex."""
    return content_id([previous, seq, at, kind, key, body])


def head(database: Database) -> str:
    """The digest of the newest entry: it stands for everything recorded so far."""
    return _last(database)[1]


def _last(database: Database) -> tuple[int, str]:
    row = database.first("SELECT seq, digest FROM entry ORDER BY seq DESC LIMIT 1")
    return (0, GENESIS) if row is None else (row[0], row[1])


def digest_lines(lines: Iterable[object]) -> str:
    """SHA-256, in hex, of the canonical JSON of each value, a line each; for lists too long to hold."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(canonical_json(line) + b"\n")
    return digest.hexdigest()


def _columns(database: Database, sql: str, values: tuple[object, ...], json_names: frozenset[str]) -> Body | None:
    cursor = database.execute(sql, values)
    row = cursor.fetchone()
    if row is None:
        return None
    names = [column[0] for column in cursor.description]
    return {name: json.loads(value) if name in json_names else value for name, value in zip(names, row, strict=True)}


def _table(sql: str, *json_names: str) -> Callable[[Database, str], Body | None]:
    """The body of a record that is one row; ``sql`` asks for it by its key."""
    names = frozenset(json_names)
    return lambda database, key: _columns(database, sql, tuple(int(part) for part in key.split("/")), names)


def dataset_body(database: Database, key: str) -> Body | None:
    """A data set's record. Its own id is the hash of the rest."""
    body = _columns(database, "SELECT kind, settings FROM dataset WHERE key = ?", (int(key),), frozenset({"settings"}))
    if body is None:
        return None
    members = database.each(
        "SELECT lower(hex(r.id)), m.split, s.sha256, s.path, s.licence, m.number, m.position FROM member m "
        "JOIN row r ON r.key = m.row JOIN source s ON s.key = m.source WHERE m.dataset = ? ORDER BY m.position",
        (int(key),),
    )
    exclusions = database.each(
        "SELECT lower(hex(e.row_id)), e.reason, s.sha256, s.path, s.licence, e.number, e.position FROM exclusion e "
        "JOIN source s ON s.key = e.source WHERE e.dataset = ? ORDER BY e.position",
        (int(key),),
    )
    body["members"] = digest_lines(members)
    body["exclusions"] = digest_lines(exclusions)
    return body


def _dataset(database: Database, key: str) -> Body | None:
    body = dataset_body(database, key)
    if body is None:
        return None
    return {"id": database.one("SELECT id FROM dataset WHERE key = ?", (int(key),))[0], "made of": content_id(body)}


def _steps(database: Database, key: str) -> Body | None:
    """A stretch of steps, ``RUN/ATTEMPT/FIRST/LAST``; one that was slipped in between belongs to its body."""
    run, attempt, first, last = (int(part) for part in key.split("/"))
    rows = database.each(
        "SELECT number, loss, facts FROM step WHERE run = ? AND attempt = ? AND number BETWEEN ? AND ? ORDER BY number",
        (run, attempt, first, last),
    )
    return {"run": run, "attempt": attempt, "steps": digest_lines(rows)}


def _evaluation(database: Database, key: str) -> Body | None:
    body = _columns(
        database,
        "SELECT e.model, d.id AS dataset, e.split, e.metrics, e.settings, e.machine, e.at FROM evaluation e "
        "LEFT JOIN dataset d ON d.key = e.dataset WHERE e.key = ?",
        (int(key),),
        frozenset({"metrics", "settings", "machine"}),
    )
    if body is None:
        return None
    outcomes = database.each(
        "SELECT lower(hex(r.id)), o.answer, o.correct, o.facts, o.position FROM outcome o "
        "JOIN row r ON r.key = o.row WHERE o.evaluation = ? ORDER BY o.position",
        (int(key),),
    )
    return {**body, "outcomes": digest_lines(outcomes)}


BODIES: dict[str, Callable[[Database, str], Body | None]] = {
    "source": _table("SELECT path, sha256, size, licence FROM source WHERE key = ?"),
    "data set": _dataset,
    "run": _table(
        "SELECT r.id, r.recipe, r.seed, r.code_version, r.base, d.id AS dataset, r.row_order, r.machine, r.started_at "
        "FROM run r LEFT JOIN dataset d ON d.key = r.dataset WHERE r.key = ?",
        "recipe",
        "machine",
    ),
    "attempt": _table(
        "SELECT run, number, from_step, machine, at FROM attempt WHERE run = ? AND number = ?", "machine"
    ),
    "steps": _steps,
    "end of run": _table("SELECT run, status, at, facts FROM run_end WHERE run = ?", "facts"),
    "model": _table(
        "SELECT m.id, m.name, m.files, m.parent, r.id AS run, m.licence, m.disclosed, m.at FROM model m "
        "LEFT JOIN run r ON r.key = m.run WHERE m.key = ?",
        "files",
        "disclosed",
    ),
    "evaluation": _evaluation,
}
"""Kind of entry -> its body as the tables have it, ``None`` where the record is gone."""
