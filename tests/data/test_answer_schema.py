"""The schema of a data set's answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from empu.data.answer_schema import canonical_answer, infer_schema


def found(*answers: Any) -> dict[str, Any]:
    schema = infer_schema(json.dumps(answer) for answer in answers)
    assert schema is not None
    return schema


def test_keys_types_and_what_is_required_come_from_the_answers() -> None:
    schema = found({"total": 3, "lines": [{"text": "a"}], "paid": True}, {"lines": [], "total": 2.5, "note": None})
    assert list(schema["properties"]) == ["total", "lines", "paid", "note"]
    assert schema["required"] == ["total", "lines"]
    assert schema["properties"]["total"]["type"] == "number"
    assert schema["properties"]["lines"]["items"]["properties"]["text"]["type"] == "string"
    assert schema["properties"]["note"]["type"] == "null"
    assert not schema["additionalProperties"]


def test_a_place_with_several_types_keeps_them_and_strings_are_bounded() -> None:
    schema = found({"a": "x" * 30}, {"a": None}, {"a": "y"})
    assert schema["properties"]["a"] == {"type": ["string", "null"], "maxLength": 120}


@pytest.mark.parametrize("answers", [["{}"], ["[1]"], ["3"], ["not JSON"], ['{"a": 1}', "no"], []])
def test_other_answers_have_no_schema(answers: list[str]) -> None:
    assert infer_schema(answers) is None


def test_answers_are_written_in_the_schemas_order_without_spaces() -> None:
    schema = found({"b": "é", "a": [{"y": 1, "x": 2}]})
    assert canonical_answer('{"a": [{"x": 2, "y": 1}], "b": "é"}', schema) == '{"b":"é","a":[{"y":1,"x":2}]}'
