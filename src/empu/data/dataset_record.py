"""Record a split data set in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from empu.data.rows import Row
from empu.data.splits import Split
from empu.ledger.ledger import Ledger
from empu.ledger.records import UNKNOWN, DatasetRow, Exclusion, SourceFile


def record_dataset(
    ledger: Ledger,
    split: Split,
    licence: str = UNKNOWN,
    settings: Mapping[str, Any] | None = None,
    rows: Iterable[tuple[Row, str]] | None = None,
) -> str:
    """Record each row with its place and split, and each exclusion with its reason; return the data set's id (hex).

    ``licence`` is the licence that the user states for the files. ``settings`` says how they were read, checked and
    split. ``rows`` replaces the rows of ``split`` where some serve in another split.
    """
    checked = split.checked
    sources = {
        table.source: SourceFile(table.source, table.sha256, table.size, licence)
        for data in (checked.data, checked.test)
        if data is not None
        for table in data.tables
    }
    return ledger.add_dataset(
        str(checked.data.kind),
        (DatasetRow(row.fields, part, sources[row.source], row.number) for row, part in rows or split.all_rows()),
        (Exclusion(sources[item.source], item.number, item.reason, item.row_id) for item in split.exclusions),
        settings,
    )
