"""Many rows stream: memory per row stays small, whatever the rows hold."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from empu.data.checks import check_rows
from empu.data.reader import read_rows

pytest.importorskip("rensa")

ROWS = 200_000
TEXT = "ticket {0} about order {1} and parcel {2}: it came late, and box {0} of {1} was open when {2} brought it here"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scale") / "many.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for number in range(ROWS):
            spread = number * 2_654_435_761 % 2**32
            file.write(f'"{TEXT.format(spread, spread * 7 % 10**9, spread * 13 % 10**9)}",class {number % 20}\n')
    return path


def test_reading_holds_no_rows(many: Path) -> None:
    tracemalloc.start()
    count = sum(1 for _ in read_rows(many).rows())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == ROWS
    assert peak < 16 << 20, f"{peak / 2**20:.1f} MiB"


def test_checking_keeps_a_few_numbers_for_each_row(many: Path) -> None:
    few = many.with_name("few.csv")
    with many.open(encoding="utf-8") as source:
        few.write_text("".join(line for line, _ in zip(source, range(20_001), strict=False)), encoding="utf-8")
    tracemalloc.start()
    check_rows(read_rows(few))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / 20_000 < 1500, f"{peak / 20_000:.0f} bytes a row"
