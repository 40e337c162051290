"""Writing the members and exclusions of a data set, in batches, so that it may be longer than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from empu.ledger.database import Database
from empu.ledger.hashing import canonical_json
from empu.ledger.records import Exclusion, Member, Source, texts
from empu.ledger.row_hash import row_digest, text_digest

T = TypeVar("T")

Intern = Callable[[Source], int]
"""Gives the key of a source, which it records where it is new."""

BATCH = 2000
"""Rows that are handed to SQLite at a time."""


def add_members(database: Database, intern: Intern, dataset: int, start: int, batch: list[Member]) -> None:
    contents = [canonical_json(dict(member.fields)) for member in batch]
    ids = [row_digest(content) for content in contents]
    database.execute_many(
        "INSERT OR IGNORE INTO row (id, content) VALUES (?, ?)",
        [(row_id, content.decode("utf-8")) for row_id, content in zip(ids, contents, strict=True)],
    )
    database.execute_many(
        "INSERT OR IGNORE INTO row_text (sha256, row) VALUES (?, (SELECT key FROM row WHERE id = ?))",
        [(text_digest(text), ids[i]) for i, member in enumerate(batch) for text in texts(dict(member.fields))],
    )
    database.execute_many(
        "INSERT INTO member (dataset, position, row, split, source, number) "
        "VALUES (?, ?, (SELECT key FROM row WHERE id = ?), ?, ?, ?)",
        [
            (dataset, start + i, ids[i], member.split, intern(member.source), member.number)
            for i, member in enumerate(batch)
        ],
    )


def add_exclusions(database: Database, intern: Intern, dataset: int, start: int, batch: list[Exclusion]) -> None:
    database.execute_many(
        "INSERT INTO exclusion (dataset, position, source, number, row_id, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                dataset,
                start + i,
                intern(one.source),
                one.number,
                None if one.row_id is None else bytes.fromhex(one.row_id),
                one.reason,
            )
            for i, one in enumerate(batch)
        ],
    )


def batches(items: Iterable[T]) -> Iterator[tuple[int, list[T]]]:
    start, iterator = 0, iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield start, batch
        start += len(batch)
