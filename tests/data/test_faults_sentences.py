"""A sentence about too few rows names the commonest reason, its first row, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from empu.errors import EmpuError
from tests.data.reading import THINGS, read, report_of, sentences

ROWS = [{"text": text, "label": label} for text, label in sentences(30)]


def sentence(path: Path, content: Any) -> str:
    with pytest.raises(EmpuError) as caught:
        report_of(path, content)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said) < 600
    return said


def test_the_commonest_reason_is_named_and_not_the_first(tmp_path: Path) -> None:
    rows = [{"text": "", "label": "a"}, *({"text": row["text"], "label": ["a", "b"]} for row in ROWS)]
    said = sentence(tmp_path / "a.jsonl", rows)
    assert "row 2, the first of 30 alike: the label is a list of 2 labels" in said
    assert "add more" not in said


def test_rows_of_unknown_roles_are_named_although_roles_differ(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": f"speaker {i}", "content": "a"}, {"role": "assistant", "content": "b"}]}
        for i in range(20)
    ]
    said = sentence(tmp_path / "a.jsonl", rows)
    assert "row 1, the first of 20 alike: message 1 has the unknown role 'speaker 0'" in said


def test_add_more_is_only_said_where_rows_are_few(tmp_path: Path) -> None:
    assert sentence(tmp_path / "a.jsonl", ROWS[:5]).endswith("at least 10 are needed; add more.")


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ([ROWS[0]] * 20, "add rows that differ"),
        ([{"text": f"The {thing}", "label": label} for thing in THINGS for label in "ab"], "give each text one label"),
        ([{"text": f"The {thing}", "label": ""} for thing in THINGS] + ROWS[:2], "fill these cells"),
        ([{"prompt": f"The {t}?", "completion": "No.", "label": False} for t in THINGS], "add rows with good answers"),
    ],
)
def test_what_to_do_follows_from_the_reason(tmp_path: Path, rows: list[Any], advice: str) -> None:
    assert advice in sentence(tmp_path / "a.jsonl", rows)


def test_a_test_file_without_usable_rows_says_why(tmp_path: Path) -> None:
    from empu.data.checks import check_rows
    from empu.data.reader import read_rows
    from tests.data.reading import write

    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.jsonl", [{"text": "a b", "label": ["a", "b"]}])
    with pytest.raises(EmpuError, match="row 1: the label is a list of 2 labels"):
        check_rows(read_rows(tmp_path / "train.jsonl"), read_rows(tmp_path / "test.jsonl"))


def test_labels_of_one_row_each_are_the_reason_and_not_near_duplicates(tmp_path: Path) -> None:
    rows = [row | {"label": f"{row['label']} {i}"} for i, row in enumerate(ROWS)]
    said = sentence(tmp_path / "a.jsonl", rows)
    assert "each label has one row" in said
    assert "near-duplicates" not in said


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.yml", "nlu:\n- intent: parcel\n  examples: |\n    - Where is it\n", "a YAML file"),
        ("a.yaml", "a: b\n", "a YAML file"),
        ("a.txt", 'version: "3.1"\nnlu:\n- intent: parcel\n', "a YAML file"),
        ("a.txt", "---\nname: x\nrows:\n- a\n", "a YAML file"),
        ("a.xml", "<?xml version='1.0'?><rows/>", "an XML file"),
        ("a.txt", "__label__parcel where is it\n__label__refund my money\n", "fastText"),
        ("a.md", "## intent:parcel\n- where is it\n", "a document"),
        ("a.feather", b"ARROW1\0\0" + b"\0" * 50, "an Arrow file"),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        ("a.rtf", "{\\rtf1\\ansi text}", "an RTF document"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfd" + b"\0" * 50, "compressed with Zstandard"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, content: Any, kind: str) -> None:
    assert kind in sentence(tmp_path / name, content)


def test_a_table_whose_header_looks_like_a_key_is_no_yaml(tmp_path: Path) -> None:
    rows = "".join(f"{row['text'].replace(':', '')},{row['label']}\n" for row in ROWS)
    content = "text: of the ticket,label\n" + rows
    assert report_of(tmp_path / "a.csv", content).kept == 30


def test_parts_far_from_their_share_are_said(tmp_path: Path) -> None:
    long = "please tell me when the big parcel with the two lamps of my last order of this month will come to me"
    rows = [{"prompt": f"{long}, number {i}", "completion": f"On day {i}."} for i in range(40)]
    rows += [{"prompt": text, "completion": f"{label}, surely."} for text, label in sentences(12)]
    report = report_of(tmp_path / "a.jsonl", rows)
    assert report.parts["train"] >= 40
    assert report.uneven_parts
    assert any("where 15% were meant" in line or "where 10% were meant" in line for line in report.lines())


def test_skipped_files_and_records_are_counted(tmp_path: Path) -> None:
    kept, excluded, data = read(tmp_path / "a.jsonl", [*ROWS, 7, {"text": "", "label": "a"}])
    assert (len(kept), len(excluded)) == (30, 2)
    assert len(list(data.records())) == 32
