"""Packed rows are the rows that went in."""

from __future__ import annotations

import tracemalloc

import pytest

from empu.data.packed_rows import PackedRows
from empu.data.rows import Kind, Row


def _rows() -> list[Row]:
    dialogue = [{"role": "user", "content": "héllo \u2028 \ud83d"}, {"role": "assistant", "content": "42"}]
    return [
        Row(Kind.LABEL, {"text": "Grüße 🙂", "label": "greeting"}, "a.csv", 2, "00" * 32),
        Row(Kind.LABEL, {"text": "", "label": "none"}, "b.csv", 3, "ff" * 32),
        Row(Kind.MESSAGES, {"messages": dialogue}, "a.csv", 1 << 40, "1f" * 32),
    ]


def test_packed_rows_are_the_plain_ones() -> None:
    plain = _rows()
    packed = PackedRows(plain)
    assert list(packed) == plain
    assert packed[-1] == plain[-1]
    assert packed[1:] == plain[1:]
    assert list(packed.ids()) == [row.id for row in plain]
    assert [list(row.fields) for row in packed] == [list(row.fields) for row in plain]
    assert packed.sources() == {"a.csv", "b.csv"}
    with pytest.raises(IndexError):
        packed[3]


def test_packed_rows_take_little_memory() -> None:
    count = 20_000
    tracemalloc.start()
    try:
        packed = PackedRows(
            Row(Kind.LABEL, {"text": f"text {i:09}", "label": f"label {i % 77:02}"}, "a.csv", i, f"{i:064x}")
            for i in range(count)
        )
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(packed) == count
    assert size / count < 160
