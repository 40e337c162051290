"""Hash chain over the ledger: each entry hashes one record together with the digest of the entry before it.

A later edit of a record breaks its entry; a later edit of an entry breaks all entries after it. Record bodies are read
from the tables and not stored twice. The chain alone cannot show that its newest entries were removed. To detect that,
compare :func:`head` with a copy kept elsewhere.
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
"""Digest before the first entry."""

Record = dict[str, Any]
"""One record of the ledger, as it is hashed."""


def timestamp() -> str:
    """Return the current time as recorded: UTC, ISO 8601, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def append_entry(database: Database, kind: str, key: str) -> None:
    """Append an entry for the record ``key`` of ``kind``. Call it in the transaction that wrote the record."""
    record = RECORD_READERS[kind](database, key)
    assert record is not None, f"{kind} {key} must be written before its entry"
    seq, previous = _newest(database)
    record_digest, at = content_id(record), timestamp()
    digest = entry_digest(previous, seq + 1, at, kind, key, record_digest)
    database.execute(
        "INSERT INTO entry (seq, at, kind, key, body, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (seq + 1, at, kind, key, record_digest, digest),
    )


def entry_digest(previous: str, seq: int, at: str, kind: str, key: str, record_digest: str) -> str:
    """Return the digest of an entry, in hex."""
    return content_id([previous, seq, at, kind, key, record_digest])


def head(database: Database) -> str:
    """Return the digest of the newest entry, which covers everything recorded so far."""
    return _newest(database)[1]


def _newest(database: Database) -> tuple[int, str]:
    row = database.fetch_first("SELECT seq, digest FROM entry ORDER BY seq DESC LIMIT 1")
    return (0, GENESIS) if row is None else (row[0], row[1])


def digest_lines(lines: Iterable[object]) -> str:
    """Return the SHA-256, in hex, of one line of canonical JSON per value. For lists larger than memory."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(canonical_json(line) + b"\n")
    return digest.hexdigest()


def _columns(database: Database, sql: str, values: tuple[object, ...], json_names: frozenset[str]) -> Record | None:
    cursor = database.execute(sql, values)
    row = cursor.fetchone()
    if row is None:
        return None
    names = [column[0] for column in cursor.description]
    return {name: json.loads(value) if name in json_names else value for name, value in zip(names, row, strict=True)}


def _row_reader(sql: str, *json_names: str) -> Callable[[Database, str], Record | None]:
    """Return a reader for records that are one table row, which ``sql`` selects by its key."""
    names = frozenset(json_names)
    return lambda database, key: _columns(database, sql, tuple(int(part) for part in key.split("/")), names)


def read_dataset(database: Database, key: str) -> Record | None:
    """Return the record of a data set without its id, which is the hash of this record."""
    record = _columns(
        database, "SELECT kind, settings FROM dataset WHERE key = ?", (int(key),), frozenset({"settings"})
    )
    if record is None:
        return None
    members = database.iterate(
        "SELECT lower(hex(r.id)), m.split, s.sha256, s.path, s.licence, m.number, m.position FROM member m "
        "JOIN row r ON r.key = m.row JOIN source s ON s.key = m.source WHERE m.dataset = ? ORDER BY m.position",
        (int(key),),
    )
    exclusions = database.iterate(
        "SELECT lower(hex(e.row_id)), e.reason, s.sha256, s.path, s.licence, e.number, e.position FROM exclusion e "
        "JOIN source s ON s.key = e.source WHERE e.dataset = ? ORDER BY e.position",
        (int(key),),
    )
    record["members"] = digest_lines(members)
    record["exclusions"] = digest_lines(exclusions)
    return record


def _dataset(database: Database, key: str) -> Record | None:
    record = read_dataset(database, key)
    if record is None:
        return None
    return {
        "id": database.fetch_one("SELECT id FROM dataset WHERE key = ?", (int(key),))[0],
        "made of": content_id(record),
    }


def _steps(database: Database, key: str) -> Record | None:
    """Read a range of steps, ``RUN/ATTEMPT/FIRST/LAST``. A step inserted later changes the record."""
    run, attempt, first, last = (int(part) for part in key.split("/"))
    rows = database.iterate(
        "SELECT number, loss, facts FROM step WHERE run = ? AND attempt = ? AND number BETWEEN ? AND ? ORDER BY number",
        (run, attempt, first, last),
    )
    return {"run": run, "attempt": attempt, "steps": digest_lines(rows)}


def _evaluation(database: Database, key: str) -> Record | None:
    record = _columns(
        database,
        "SELECT e.model, d.id AS dataset, e.split, e.metrics, e.settings, e.machine, e.at FROM evaluation e "
        "LEFT JOIN dataset d ON d.key = e.dataset WHERE e.key = ?",
        (int(key),),
        frozenset({"metrics", "settings", "machine"}),
    )
    if record is None:
        return None
    evaluated_rows = database.iterate(
        "SELECT lower(hex(r.id)), o.answer, o.correct, o.facts, o.position FROM outcome o "
        "JOIN row r ON r.key = o.row WHERE o.evaluation = ? ORDER BY o.position",
        (int(key),),
    )
    return {**record, "outcomes": digest_lines(evaluated_rows)}


RECORD_READERS: dict[str, Callable[[Database, str], Record | None]] = {
    "source": _row_reader("SELECT path, sha256, size, licence FROM source WHERE key = ?"),
    "data set": _dataset,
    "run": _row_reader(
        "SELECT r.id, r.recipe, r.seed, r.code_version, r.base, d.id AS dataset, r.row_order, r.machine, r.started_at "
        "FROM run r LEFT JOIN dataset d ON d.key = r.dataset WHERE r.key = ?",
        "recipe",
        "machine",
    ),
    "attempt": _row_reader(
        "SELECT run, number, from_step, machine, at FROM attempt WHERE run = ? AND number = ?", "machine"
    ),
    "steps": _steps,
    "end of run": _row_reader("SELECT run, status, at, facts FROM run_end WHERE run = ?", "facts"),
    "model": _row_reader(
        "SELECT m.id, m.name, m.files, m.parent, r.id AS run, m.licence, m.disclosed, m.at FROM model m "
        "LEFT JOIN run r ON r.key = m.run WHERE m.key = ?",
        "files",
        "disclosed",
    ),
    "evaluation": _evaluation,
    "document": _row_reader(
        "SELECT collection, action, address, sha256, size, licence, added_by, at FROM document WHERE key = ?"
    ),
}
"""Kind of entry -> function that reads its record from the tables; ``None`` if the record is missing."""
