"""Reading the whole ledger again and saying, a sentence each, what is not as it was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator

from empu.ledger import hash_chain
from empu.ledger.database import Database
from empu.ledger.hashing import content_id
from empu.ledger.records import texts
from empu.ledger.row_hash import row_digest, text_digest

UNCHAINED = {
    "source": "SELECT key FROM source",
    "data set": "SELECT key FROM dataset",
    "run": "SELECT key FROM run",
    "attempt": "SELECT run || '/' || number FROM attempt",
    "end of run": "SELECT run FROM run_end",
    "model": "SELECT key FROM model",
    "evaluation": "SELECT key FROM evaluation",
}
"""Kind of entry -> the keys of all its records, each of which must have an entry."""


def verify(database: Database, head: str | None = None) -> list[str]:
    """See :meth:`empu.ledger.ledger.Ledger.verify`."""
    return [*_file(database), *_chain(database, head), *_unchained(database), *_rows(database)]


def _file(database: Database) -> Iterator[str]:
    for (answer,) in database.each("PRAGMA integrity_check(20)"):
        if answer != "ok":
            yield f"The file {database.path} is damaged: {answer}."
    for row in database.each("PRAGMA foreign_key_check"):
        yield f"A record of table {row[0]} points to one of table {row[2]} that is gone."


def _chain(database: Database, head: str | None) -> Iterator[str]:
    previous, expected = hash_chain.GENESIS, 1
    head_seen = head in (None, hash_chain.GENESIS)
    entries = database.each("SELECT seq, at, kind, key, body, digest FROM entry ORDER BY seq")
    for seq, at, kind, key, body, digest in entries:
        if seq != expected:
            yield f"Entries {expected} to {seq - 1} are missing."
        if kind not in hash_chain.BODIES:
            yield f"Entry {seq} is of the unknown kind {kind!r}."
        else:
            found = hash_chain.BODIES[kind](database, key)
            if found is None:
                yield f"The record {kind} {key} is gone, which entry {seq} of {at} wrote down."
            elif content_id(found) != body:
                yield f"The record {kind} {key} was changed after entry {seq} of {at} wrote it down."
        if hash_chain.link(previous, seq, at, kind, key, body) != digest:
            yield f"Entry {seq} of {at} ({kind} {key}) does not follow from the one before it."
        previous, expected = digest, seq + 1
        head_seen = head_seen or digest == head
    if not head_seen:
        yield f"The chain does not hold the digest {head}; entries were cut off or replaced."


def _unchained(database: Database) -> Iterator[str]:
    for kind, keys in UNCHAINED.items():
        known = {str(key) for (key,) in database.each("SELECT key FROM entry WHERE kind = ?", (kind,))}
        for (key,) in database.each(keys):
            if str(key) not in known:
                yield f"The record {kind} {key} was put in without an entry."
    covered: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (key,) in database.each("SELECT key FROM entry WHERE kind = 'steps'"):
        run, attempt, first, last = (int(part) for part in str(key).split("/"))
        covered.setdefault((run, attempt), []).append((first, last))
    for run, attempt, number in database.each("SELECT run, attempt, number FROM step"):
        stretches = covered.get((run, attempt), [])
        if not any(first <= number <= last for first, last in stretches):
            yield f"Step {number} of run {run}, attempt {attempt}, was put in without an entry."


def _rows(database: Database) -> Iterator[str]:
    findable = 0
    for key, row_id, content in database.each("SELECT key, id, content FROM row ORDER BY key"):
        name = f"Row {row_id.hex()[:12]}"
        if not isinstance(content, str):
            yield f"{name} has lost its text."
            continue
        if row_digest(content.encode("utf-8", "surrogatepass")) != row_id:
            yield f"{name} holds another text than the one it was recorded with."
            continue
        wanted = {text_digest(text) for text in texts(json.loads(content))}
        findable += len(wanted)
        look_up = "SELECT 1 FROM row_text WHERE sha256 = ? AND row = ?"
        if not all(database.first(look_up, (digest, key)) for digest in wanted):
            yield f"{name} is not found by its texts any more."
    (kept,) = database.one("SELECT count(*) FROM row_text")
    if kept > findable:
        yield f"{kept - findable} texts point to rows that do not hold them."
