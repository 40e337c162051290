"""Texts are the same if they differ only by case and white space; punctuation may be all that tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.data.checks import check_rows
from empu.data.near_duplicates import duplicate_text
from empu.data.reader import read_rows
from tests.data.reading import THINGS, report_of, sentences, write

DIFFERENT = [
    ("The app :)", "The app :("),
    ("a < b", "a > b"),
    ("3 * 2", "3 / 2"),
    ("x == y", "x != y"),
    ("joe.bloggs@example.com", "joe-bloggs@example.com"),
    ("https://a.example/b", "https://a.example/b/"),
    ("really?", "really!"),
    ("really", "really?"),
    ("f(x)", "f[x]"),
    ("C", "C#"),
    ("-5", "5"),
    ("10%", "10"),
    ("don't", "dont"),
    ("a_b", "a-b"),
    ("👍", "👎"),
]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_texts_that_differ_by_punctuation_differ(first: str, second: str) -> None:
    assert duplicate_text(first) != duplicate_text(second)


@pytest.mark.parametrize(
    ("first", "second"), [("Hello  World", " hello world\n"), ("STRASSE", "straße"), ("caf\u00e9", "cafe\u0301")]
)
def test_texts_that_differ_by_case_and_white_space_are_the_same(first: str, second: str) -> None:
    assert duplicate_text(first) == duplicate_text(second)


@pytest.mark.parametrize(("first", "second"), [(":)", ":("), ("!", "?"), (" == b", " != b"), ("", "...")])
def test_rows_told_apart_by_punctuation_are_all_used(tmp_path: Path, first: str, second: str) -> None:
    rows = [
        {"text": f"The {thing} of today{mark if mark.startswith(' ') else ' ' + mark}", "label": label}
        for thing in THINGS
        for mark, label in ((first, "x"), (second, "y"))
    ]
    report = report_of(tmp_path / "a.jsonl", rows)
    assert (report.kept, report.excluded) == (24, {})


def test_arithmetic_is_not_contradictory(tmp_path: Path) -> None:
    signs = {"*": "times", "/": "over", "-": "minus", "+": "plus"}
    rows = [
        {"text": f"{a}{sign}{b}", "label": name}
        for a in range(3, 7)
        for b in range(2, 5)
        for sign, name in signs.items()
    ]
    assert report_of(tmp_path / "a.jsonl", rows).kept == 48


def test_the_test_file_excludes_the_same_text_and_not_another_sign(tmp_path: Path) -> None:
    train = [{"text": f"{a} {sign} {b}", "label": sign} for a in range(9) for b in range(9) for sign in "*/"]
    write(tmp_path / "train.jsonl", train)
    write(tmp_path / "test.jsonl", [{"text": "3  *  2", "label": "*"}])
    result = check_rows(read_rows(tmp_path / "train.jsonl"), read_rows(tmp_path / "test.jsonl"))
    assert [record.reason.split(",")[0] for record in result.exclusions] == ["its text is in the test part"]


def test_near_duplicates_are_trained_on(tmp_path: Path) -> None:
    long = "please tell me when the big parcel with the two lamps of my last order of this month will come to me"
    rows = [{"text": text, "label": label} for text, label in sentences(30)]
    rows += [{"text": f"{long}, {name}", "label": "parcel"} for name in ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")]
    report = report_of(tmp_path / "a.jsonl", rows)
    assert (report.kept, report.excluded) == (36, {})
    assert report.near_duplicate_pairs >= 10
