"""Check the whole ledger: the database file, the hash chain, and the contents and index of the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator

from empu.ledger import hash_chain
from empu.ledger.database import Database
from empu.ledger.hashing import content_id
from empu.ledger.records import texts
from empu.ledger.row_hash import row_digest, text_digest

CHAINED_RECORDS = {
    "source": "SELECT key FROM source",
    "data set": "SELECT key FROM dataset",
    "run": "SELECT key FROM run",
    "attempt": "SELECT run || '/' || number FROM attempt",
    "end of run": "SELECT run FROM run_end",
    "model": "SELECT key FROM model",
    "evaluation": "SELECT key FROM evaluation",
    "document": "SELECT key FROM document",
}
"""Kind of entry -> query for the keys of all its records. Each record must have an entry in the chain."""


def verify(database: Database, head: str | None = None) -> list[str]:
    """See :meth:`empu.ledger.ledger.Ledger.verify`."""
    return [*_check_file(database), *_check_chain(database, head), *_check_entries(database), *_check_rows(database)]


def _check_file(database: Database) -> Iterator[str]:
    for (result,) in database.iterate("PRAGMA integrity_check(20)"):
        if result != "ok":
            yield f"The file {database.path} is damaged: {result}."
    for row in database.iterate("PRAGMA foreign_key_check"):
        yield f"A record of table {row[0]} refers to a missing record of table {row[2]}."


def _check_chain(database: Database, head: str | None) -> Iterator[str]:
    """Check that every entry follows from the one before it and that its record is unchanged."""
    previous, expected_seq = hash_chain.GENESIS, 1
    head_seen = head in (None, hash_chain.GENESIS)
    entries = database.iterate("SELECT seq, at, kind, key, body, digest FROM entry ORDER BY seq")
    for seq, at, kind, key, record_digest, digest in entries:
        if seq != expected_seq:
            yield f"Entries {expected_seq} to {seq - 1} are missing."
        if kind not in hash_chain.RECORD_READERS:
            yield f"Entry {seq} has the unknown kind {kind!r}."
        else:
            record = hash_chain.RECORD_READERS[kind](database, key)
            if record is None:
                yield f"The record {kind} {key} is missing; entry {seq} of {at} recorded it."
            elif content_id(record) != record_digest:
                yield f"The record {kind} {key} was changed after entry {seq} of {at} recorded it."
        if hash_chain.entry_digest(previous, seq, at, kind, key, record_digest) != digest:
            yield f"Entry {seq} of {at} ({kind} {key}) does not follow from the entry before it."
        previous, expected_seq = digest, seq + 1
        head_seen = head_seen or digest == head
    if not head_seen:
        yield f"The chain does not contain the digest {head}; entries were removed or replaced."


def _check_entries(database: Database) -> Iterator[str]:
    """Check that every record has an entry in the chain."""
    for kind, query in CHAINED_RECORDS.items():
        chained = {str(key) for (key,) in database.iterate("SELECT key FROM entry WHERE kind = ?", (kind,))}
        for (key,) in database.iterate(query):
            if str(key) not in chained:
                yield f"The record {kind} {key} was added without an entry."
    step_ranges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (key,) in database.iterate("SELECT key FROM entry WHERE kind = 'steps'"):
        run, attempt, first, last = (int(part) for part in str(key).split("/"))
        step_ranges.setdefault((run, attempt), []).append((first, last))
    for run, attempt, number in database.iterate("SELECT run, attempt, number FROM step"):
        if not any(first <= number <= last for first, last in step_ranges.get((run, attempt), [])):
            yield f"Step {number} of run {run}, attempt {attempt}, was added without an entry."


def _check_rows(database: Database) -> Iterator[str]:
    """Check the content of every row and the index of texts."""
    expected_entries = 0
    for key, row_id, content in database.iterate("SELECT key, id, content FROM row ORDER BY key"):
        name = f"Row {row_id.hex()[:12]}"
        if not isinstance(content, str):
            yield f"{name} has lost its content."
            continue
        if row_digest(content.encode("utf-8", "surrogatepass")) != row_id:
            yield f"{name} has different content than was recorded."
            continue
        digests = {text_digest(text) for text in texts(json.loads(content))}
        expected_entries += len(digests)
        query = "SELECT 1 FROM row_text WHERE sha256 = ? AND row = ?"
        if not all(database.fetch_first(query, (digest, key)) for digest in digests):
            yield f"{name} is missing from the index of texts."
    (entries,) = database.fetch_one("SELECT count(*) FROM row_text")
    if entries > expected_entries:
        yield f"{entries - expected_entries} entries of the index of texts point to rows without that text."
