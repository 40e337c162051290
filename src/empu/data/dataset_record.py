"""Writing a divided data set into the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from empu.data.rows import Row
from empu.data.splits import Split
from empu.ledger.ledger import Ledger
from empu.ledger.records import UNKNOWN, Exclusion, Member, Source


def record(
    ledger: Ledger,
    split: Split,
    licence: str = UNKNOWN,
    settings: Mapping[str, Any] | None = None,
    rows: Iterable[tuple[Row, str]] | None = None,
) -> str:
    """Record the rows with their places and parts, the exclusions with their reasons; gives the data set's id (hex).

    ``licence`` is what the user says of the files; ``settings`` is how they were read, checked and divided; ``rows``
    are those of ``split`` where some serve as another part than it says.
    """
    checked = split.checked
    sources = {
        part.source: Source(part.source, part.sha256, part.size, licence)
        for reading in (checked.reading, checked.test)
        if reading is not None
        for part in reading.parts
    }
    return ledger.add_dataset(
        str(checked.reading.kind),
        (Member(row.fields, part, sources[row.source], row.number) for row, part in rows or split.all_rows()),
        (Exclusion(sources[one.source], one.number, one.reason, one.row_id) for one in split.exclusions),
        settings,
    )
