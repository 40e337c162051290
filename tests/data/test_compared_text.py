"""What is compared where rows are told apart, and files that are odd and legal."""

from __future__ import annotations

import datetime
import gzip
import json
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from empu.data.checks import CheckLimits, check_rows
from empu.data.near_duplicates import near_duplicate_text
from empu.data.reader import read_rows
from empu.data.report import build_report
from empu.data.rows import DataError
from empu.data.splits import split_rows

SYSTEM = "You are the helpful assistant of a shop. " * 8
WORDS = [
    f"{first}{last}" for first in ("par", "bat", "scr", "ord", "inv") for last in ("cel", "tery", "een", "er", "ol")
]


def random_text(chance: random.Random) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(6))


def chat(question: str) -> dict[str, Any]:
    roles = (("system", SYSTEM), ("user", question), ("assistant", "yes"))
    return {"messages": [{"role": role, "content": content} for role, content in roles]}


@pytest.mark.parametrize("form", ["messages", "alpaca", "texts"])
def test_an_instruction_before_every_row_does_not_make_them_alike(tmp_path: Path, form: str) -> None:
    chance = random.Random(0)
    questions = [random_text(chance) for _ in range(200)]
    rows: list[dict[str, Any]] = [chat(question) for question in questions]
    if form == "alpaca":
        rows = [{"instruction": SYSTEM, "input": question, "output": "yes"} for question in questions]
    if form == "texts":
        rows = [{"text": f"{SYSTEM}\n\n{question}", "label": "ab"[i % 2]} for i, question in enumerate(questions)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    parts = build_report(split_rows(check_rows(read_rows(path)))).parts
    assert sum(parts.values()) == 200
    assert min(parts.values()) > 5


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("\u0926\u093f\u0928", "\u0926\u0940\u0928"),
        ("\U0001f44d ok", "\U0001f44e ok"),
        ("C++", "C#"),
        ("-5", "5"),
        ("a<b", "a>b"),
        ("5%", "5"),
    ],
)
def test_signs_that_mean_something_are_not_punctuation(first: str, second: str) -> None:
    assert near_duplicate_text(first) != near_duplicate_text(second)


def test_the_same_words_are_the_same() -> None:
    assert (
        near_duplicate_text("  Well-known, isn\u2019t it?")
        == near_duplicate_text("WELL KNOWN -- isn\u2019t it")
        == "well known isn t it"
    )
    assert near_duplicate_text("cafe\u0301") == near_duplicate_text("caf\u00e9")


def test_a_workbook_that_misstates_its_size_loses_no_row(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for cells in [("text", "label"), *((f"text {i}", "ab"[i % 2]) for i in range(20))]:
        book.active.append(cells)
    book.save(tmp_path / "right.xlsx")
    for reference in ("A1", "A1:B5"):
        path = tmp_path / f"{reference[-1]}.xlsx"
        with zipfile.ZipFile(tmp_path / "right.xlsx") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name.endswith("sheet1.xml"):
                    data = re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="%s"' % reference.encode(), data)
                new.writestr(name, data)
        assert len(list(read_rows(path).records())) == 20


def test_columns_that_python_has_no_type_for_become_text(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {
            "text": [f"text {i}" for i in range(12)],
            "label": ["a", "b"] * 6,
            "when": arrow.array([1_700_000_000_000_000_001] * 12, arrow.timestamp("ns")),
            "long": arrow.array([1_001] * 12, arrow.duration("ns")),
            "far": arrow.array([10**14] * 12, arrow.timestamp("s")),
            "day": [datetime.date(2024, 1, 2)] * 12,
        }
    )
    parquet.write_table(table, tmp_path / "odd.parquet")
    assert len(list(read_rows(tmp_path / "odd.parquet").records())) == 12


def test_a_damaged_gzip_file_is_a_sentence(tmp_path: Path) -> None:
    chance = random.Random(0)
    packed = bytearray(
        gzip.compress("\n".join(["text,label", *(f"{random_text(chance)},a" for _ in range(300))]).encode())
    )
    packed[200] ^= 0xFF
    packed[201] ^= 0xFF
    (tmp_path / "rows.csv.gz").write_bytes(packed)
    with pytest.raises(DataError, match="damaged gzip"):
        list(read_rows(tmp_path / "rows.csv.gz").records())


def test_counts_are_of_the_rows_that_are_used(tmp_path: Path) -> None:
    chance = random.Random(0)
    lines = [f"{random_text(chance)} {i},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines * 3, f"{'long ' * 5000},a"]))

    checked = check_rows(
        read_rows(tmp_path / "rows.csv"),
        count_tokens=lambda text: len(text.split()),
        limits=CheckLimits(max_tokens=100),
    )
    report = build_report(split_rows(checked))
    assert report.near_duplicate_pairs == 0
    assert report.longest_tokens < 100


def test_parts_of_a_message_are_one_text_and_an_answer_needs_a_question(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    whole = [{"role": "user", "content": parts}, {"role": "assistant", "content": "yes"}]
    rows = [{"messages": whole}, {"messages": whole[1:]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = read_rows(tmp_path / "rows.jsonl").records()
    assert getattr(first, "fields", {})["messages"][0]["content"] == "one\ntwo"
    assert "nothing is asked" in getattr(second, "reason", "")
