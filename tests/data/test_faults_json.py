"""JSON in the shapes that programs write is read, and other shapes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from empu.data.answer_schema import canonical_answer, infer_schema
from empu.errors import EmpuError
from tests.data.reading import read, sentences

ROWS = [{"text": text, "label": label} for text, label in sentences(30)]
TEXTS, LABELS = [row["text"] for row in ROWS], [row["label"] for row in ROWS]

SHAPES: dict[str, Any] = {
    "records": ROWS,
    "columns": {
        "text": {str(i): text for i, text in enumerate(TEXTS)},
        "label": {str(i): label for i, label in enumerate(LABELS)},
    },
    "index": {str(i): row for i, row in enumerate(ROWS)},
    "ids": {f"ticket-{i}": row for i, row in enumerate(ROWS)},
    "split": {"columns": ["text", "label"], "index": list(range(30)), "data": [list(row.values()) for row in ROWS]},
    "table": {"schema": {"fields": [{"name": "text", "type": "string"}], "pandas_version": "1.4.0"}, "data": ROWS},
    "lists": {"text": TEXTS, "label": LABELS},
    "wrapped": {"rasa_nlu_data": {"common_examples": ROWS, "regex_features": []}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_this_shape_are_read(tmp_path: Path, shape: str) -> None:
    kept, excluded, _ = read(tmp_path / "a.json", json.dumps(SHAPES[shape]))
    assert [dict(row.fields) for row in kept] == ROWS
    assert not excluded


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"train": [["a", "x"]] * 3, "val": [["b", "y"]]}, "arrays of rows without column names (train 3, val 1)"),
        ({"train": ROWS, "test": ROWS}, "several arrays (train, test)"),
        ({"text": TEXTS, "label": LABELS[:9]}, "columns of different lengths (text 30, label 9)"),
        ([["a", "x"], ["b", "y"]], "it is an array where an object is expected"),
    ],
)
def test_other_shapes_are_named(tmp_path: Path, value: Any, named: str) -> None:
    with pytest.raises(EmpuError) as caught:
        read(tmp_path / "a.json", json.dumps(value))
    assert named in str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_occurs_twice_is_refused_by_name(tmp_path: Path, name: str) -> None:
    twice = '{"text": "one thing", "text": "another", "label": "parcel"}'
    nested = '{"text": "one more thing", "label": "parcel", "more": [{"a": 1, "a": 2}]}'
    lines = [json.dumps(row) for row in ROWS] + [twice, nested]
    kept, excluded, _ = read(tmp_path / name, "\n".join(lines) if name == "a.jsonl" else f"[{','.join(lines)}]")
    assert len(kept) == 30
    assert [record.reason for record in excluded] == ["it has the key 'text' twice", "it has the key 'a' twice"]


def schema_of(*answers: Any) -> Any:
    return infer_schema(json.dumps(answer) for answer in answers)


def test_objects_without_shared_keys_take_any_key() -> None:
    counts = [{"lamp": 1, "bed": 2}, {"desk": 3}, {"vase": 1}, {"mug": 2, "fan": 1}]
    schema = schema_of(*({"items": c} for c in counts))
    assert schema["properties"]["items"]["additionalProperties"] == {"type": "integer"}
    assert schema_of(*counts)["additionalProperties"] == {"type": "integer"}
    texts = schema_of(*({"names": {f"key {i}": "text"}} for i in range(6)))
    assert texts["properties"]["names"]["additionalProperties"]["type"] == "string"


def test_objects_of_known_fields_stay_closed() -> None:
    assert schema_of({"a": 1, "b": 2}, {"a": 3})["additionalProperties"] is False
    optional = [{"phone": "1"}, {"mail": "x"}, {"phone": "2"}, {"mail": "y"}]
    assert schema_of(*optional)["additionalProperties"] is False
    assert schema_of({"a": 1}, {"b": "x"}, {"c": [1]}, {"d": None})["additionalProperties"] is False


def test_answers_keep_keys_that_the_schema_does_not_name() -> None:
    schema = schema_of(*({"items": {f"thing {i}": i}} for i in range(6)))
    assert canonical_answer('{"items": {"other": 2, "thing 1": 3}}', schema) == '{"items":{"other":2,"thing 1":3}}'
