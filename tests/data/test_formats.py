"""Each awkward file gives its rows, or exactly one clear sentence."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from empu.data.formats.recognition import open_tables
from empu.data.reader import read_rows
from empu.data.rows import ExcludedRecord, Row
from empu.errors import EmpuError
from tests.data.example_files import Case, cases, workbook

pytest.importorskip("pyarrow")
pytest.importorskip("openpyxl")


def write_case(case: Case, folder: Path) -> Path:
    path = folder / case.name
    if isinstance(case.content, bytes):
        path.write_bytes(case.content)
    else:
        case.content(path)
    return path


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_rows_or_one_sentence(case: Case, tmp_path: Path) -> None:
    path = write_case(case, tmp_path)
    if case.error is not None:
        with pytest.raises(EmpuError) as caught:
            list(read_rows(path).records())
        message = str(caught.value)
        assert case.error in message
        assert case.name in message
        assert message.endswith(".")
        assert "\n" not in message
        assert len(message) < 500
        return
    records = list(read_rows(path).records())
    rows = [record for record in records if isinstance(record, Row)]
    excluded = [record for record in records if isinstance(record, ExcludedRecord)]
    assert (len(rows), len(excluded)) == (case.rows, case.excluded), excluded
    assert all(record.reason and record.number >= 1 for record in excluded)
    assert len({(record.source, record.number) for record in records}) == len(records)


def test_the_corpus_is_large_enough() -> None:
    assert len(cases()) >= 60
    assert len({case.name for case in cases()}) == len(cases())


def test_a_folder_gives_the_good_and_names_the_bad(tmp_path: Path) -> None:
    for case in cases():
        if case.name in {"plain.csv", "paper.pdf", "empty.csv", "chats.jsonl", "lines.jsonl", "two-texts.csv"}:
            write_case(case, tmp_path)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "a.csv").write_text("text,label\none more,x\n")
    (tmp_path / ".hidden.csv").write_text("text,label\nnot this,x\n")
    data = read_rows(str(tmp_path))
    assert [Path(table.source).name for table in data.tables] == ["a.csv", "lines.jsonl", "plain.csv"]
    assert len(list(data.rows())) == 10
    assert [Path(path).name for path, _ in data.skipped] == [
        "empty.csv",
        "paper.pdf",
        "two-texts.csv",
        "chats.jsonl",
    ]
    assert all(str(tmp_path) in line for line in data.lines())


def test_cells_of_a_sheet_read_as_they_show(tmp_path: Path) -> None:
    cells = [datetime(2026, 3, 1), datetime(2026, 3, 1, 9, 30), timedelta(hours=26, minutes=5), "#N/A", 4.0, 0.5]
    names = list("abcdef")
    path = tmp_path / "cells.xlsx"
    path.write_bytes(workbook({"Sheet": [names, cells]}))
    [table] = open_tables(path)
    [record] = table.records()
    assert list(record.values.values()) == ["2026-03-01", "2026-03-01T09:30:00", "26:05:00", None, 4, 0.5]
