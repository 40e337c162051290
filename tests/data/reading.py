"""Helpers for tests that write a small file and read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empu.data.checks import check_rows
from empu.data.reader import DataFiles, read_rows
from empu.data.report import DataReport, build_report
from empu.data.rows import ExcludedRecord, Row
from empu.data.splits import split_rows

TOPICS = ("parcel", "refund", "broken")
THINGS = ("kettle", "lamp", "chair", "vase", "mug", "clock", "tray", "fan", "desk", "stool", "shelf", "bed")


def sentences(count: int) -> list[tuple[str, str]]:
    """Texts that differ, with one of three labels."""
    return [
        (f"Ticket {i}: the {THINGS[i % 12]} of order {i * 7919 % 10007} is not what I asked for", TOPICS[i % 3])
        for i in range(count)
    ]


def write(path: Path, content: str | bytes | list[Any], encoding: str = "utf-8") -> Path:
    """Write text, bytes, or a list of objects as JSONL."""
    if isinstance(content, list):
        content = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read(
    path: Path, content: str | bytes | list[Any], mapping: Mapping[str, str] | None = None, **options: Any
) -> tuple[list[Row], list[ExcludedRecord], DataFiles]:
    """Return the rows, the excluded records and the data files of a file with this content."""
    data = read_rows(write(path, content), mapping, **options)
    records = list(data.records())
    rows = [record for record in records if isinstance(record, Row)]
    return rows, [record for record in records if isinstance(record, ExcludedRecord)], data


def report_of(path: Path, content: str | bytes | list[Any]) -> DataReport:
    """Return the report of a file with this content."""
    return build_report(split_rows(check_rows(read_rows(write(path, content)))))
