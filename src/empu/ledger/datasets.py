"""Write the rows and exclusions of a data set in batches, so that it may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from empu.ledger.database import Database
from empu.ledger.hashing import canonical_json
from empu.ledger.records import DatasetRow, Exclusion, SourceFile, texts
from empu.ledger.row_hash import row_digest, text_digest

T = TypeVar("T")

SourceKey = Callable[[SourceFile], int]
"""Returns the database key of a source file; records the file if it is new."""

BATCH_ROWS = 2000
"""Rows per SQL statement."""


def add_rows(database: Database, source_key: SourceKey, dataset: int, start: int, batch: list[DatasetRow]) -> None:
    """Append rows to a data set, beginning at position ``start``."""
    contents = [canonical_json(dict(row.fields)) for row in batch]
    ids = [row_digest(content) for content in contents]
    database.execute_many(
        "INSERT OR IGNORE INTO row (id, content) VALUES (?, ?)",
        [(row_id, content.decode("utf-8")) for row_id, content in zip(ids, contents, strict=True)],
    )
    database.execute_many(
        "INSERT OR IGNORE INTO row_text (sha256, row) VALUES (?, (SELECT key FROM row WHERE id = ?))",
        [(text_digest(text), ids[i]) for i, row in enumerate(batch) for text in texts(dict(row.fields))],
    )
    database.execute_many(
        "INSERT INTO member (dataset, position, row, split, source, number) "
        "VALUES (?, ?, (SELECT key FROM row WHERE id = ?), ?, ?, ?)",
        [(dataset, start + i, ids[i], row.split, source_key(row.source), row.number) for i, row in enumerate(batch)],
    )


def add_exclusions(database: Database, source_key: SourceKey, dataset: int, start: int, batch: list[Exclusion]) -> None:
    """Append exclusions to a data set, beginning at position ``start``."""
    database.execute_many(
        "INSERT INTO exclusion (dataset, position, source, number, row_id, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                dataset,
                start + i,
                source_key(exclusion.source),
                exclusion.number,
                None if exclusion.row_id is None else bytes.fromhex(exclusion.row_id),
                exclusion.reason,
            )
            for i, exclusion in enumerate(batch)
        ],
    )


def batches(items: Iterable[T]) -> Iterator[tuple[int, list[T]]]:
    """Yield (position of the first item, batch of at most :data:`BATCH_ROWS` items)."""
    start, iterator = 0, iter(items)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield start, batch
        start += len(batch)
