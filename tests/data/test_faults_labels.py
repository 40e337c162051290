"""Labels that are the same are one class, and labels that only look the same are named."""

from __future__ import annotations

import importlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.data.reading import read, report_of, sentences

ROWS = sentences(30)


def labelled(labels: list[Any]) -> list[dict[str, Any]]:
    return [{"text": text, "label": labels[i % len(labels)]} for i, (text, _) in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["répétée", unicodedata.normalize("NFD", "répétée"), "autre"], {"répétée", "autre"}),
        ([1, 1.0, 2], {"1", "2"}),
        ([" a ", "a", "b\t"], {"a", "b"}),
        ([["a"], ["b"]], {"a", "b"}),
        (['["a"]', "['b']", "c"], {"a", "b", "c"}),
        ([True, False], {"true", "false"}),
    ],
)
def test_labels_that_are_the_same_are_one_class(tmp_path: Path, labels: list[Any], expected: set[str]) -> None:
    kept, excluded, _ = read(tmp_path / "a.jsonl", labelled(labels))
    assert {row.label for row in kept} == expected
    assert not excluded


@pytest.mark.parametrize(
    ("first", "second"),
    [("Parcel", "parcel"), ("a\u200bb", "ab"), ("a\u00a0b", "a b"), ("ａｂ", "ab"), ("card_arrival", "card arrival")],
)
def test_labels_that_look_alike_are_named(tmp_path: Path, first: str, second: str) -> None:
    report = report_of(tmp_path / "a.jsonl", labelled([first, second, "other"]))
    assert report.similar_labels == ((first, second),)
    assert any("labels that look alike are separate classes" in line for line in report.lines())


def test_invisible_characters_are_shown(tmp_path: Path) -> None:
    report = report_of(tmp_path / "a.jsonl", labelled(["a\u200bb", "ab", "other"]))
    assert "'a\\u200bb' (10 rows) and 'ab' (10 rows)" in "\n".join(report.lines())


def test_labels_that_differ_are_not_named(tmp_path: Path) -> None:
    assert report_of(tmp_path / "a.jsonl", labelled(["C", "C++", "C#"])).similar_labels == ()


@pytest.mark.parametrize("label", [["a", "b"], '["a", "b"]', {"name": "a"}, []])
def test_a_row_of_several_labels_is_refused_by_name(tmp_path: Path, label: Any) -> None:
    rows = [*labelled(["a", "b"]), {"text": "One more of them", "label": label}]
    kept, excluded, _ = read(tmp_path / "a.jsonl", rows)
    assert (len(kept), len(excluded)) == (30, 1)
    assert "label" in excluded[0].reason


def test_class_names_of_parquet_metadata_are_the_labels(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), importlib.import_module("pyarrow.parquet")
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "intent": {"names": ["parcel", "refund"], "_type": "ClassLabel"},
        "tags": {"feature": {"names": ["x", "y"], "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    columns = {
        "text": [text for text, _ in ROWS],
        "intent": [i % 2 if i else -1 for i in range(30)],
        "tags": [[i % 2] for i in range(30)],
    }
    table = arrow.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "a.parquet")
    kept, excluded, data = read(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert {row.label for row in kept} == {"parcel", "refund"}
    assert [record.reason for record in excluded] == ["the label is empty"]
    assert any("the names of 'intent' are from the file's metadata" in line for line in data.lines())
    kept, _, _ = read(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes(), {"label": "tags", "text": "text"})
    assert {row.label for row in kept} == {"x", "y"}


def test_categories_of_pandas_are_the_labels(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), importlib.import_module("pyarrow.parquet")
    labels = arrow.array([label for _, label in ROWS]).dictionary_encode()
    parquet.write_table(arrow.table({"text": [text for text, _ in ROWS], "label": labels}), tmp_path / "a.parquet")
    kept, _, _ = read(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert {row.label for row in kept} == {"parcel", "refund", "broken"}
