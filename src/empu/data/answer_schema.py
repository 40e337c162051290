"""The JSON Schema that the answers of a data set share, so that a specialist's answers always parse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST_STRING = 4
"""A string may be as many times as long as the longest one in its place, so that an answer comes to an end."""


def schema_of(answers: Iterable[str]) -> dict[str, Any] | None:
    """The schema of answers that are all JSON objects, or ``None``.

    Keys stand in the order of the first answer; one that every answer has is required. Types are those that occur.
    """
    values = []
    for answer in answers:
        if (value := object_of(answer)) is None:
            return None
        values.append(value)
    return _schema(values) if any(values) else None


def written(answer: str, schema: Mapping[str, Any]) -> str:
    """An answer as constrained decoding writes it: keys in the schema's order, no needless spaces. One that is no JSON
    object, as held-out rows may have, stays as it is.
    """
    value = object_of(answer)
    return answer if value is None else json.dumps(_ordered(value, schema), ensure_ascii=False, separators=(",", ":"))


def object_of(answer: str) -> dict[str, Any] | None:
    """An answer as a JSON object, or ``None`` for one that was cut off or is of another kind."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _schema(values: Sequence[Any]) -> dict[str, Any]:
    kinds = list(dict.fromkeys(_kind(value) for value in values))
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if strings := [value for value in values if isinstance(value, str)]:
        schema["maxLength"] = LONGEST_STRING * max(16, *(len(string) for string in strings))
    if lists := [value for value in values if isinstance(value, list)]:
        items = [item for one in lists for item in one]
        schema["maxItems"] = LONGEST_STRING * max(1, *(len(one) for one in lists))
        if items:
            schema["items"] = _schema(items)
    if objects := [value for value in values if isinstance(value, dict)]:
        keys = list(dict.fromkeys(key for one in objects for key in one))
        schema["properties"] = {key: _schema([one[key] for one in objects if key in one]) for key in keys}
        schema["required"] = [key for key in keys if all(key in one for one in objects)]
        schema["additionalProperties"] = False
    return schema


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def _ordered(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return {key: _ordered(value[key], properties[key]) for key in properties if key in value}
    if isinstance(value, list):
        return [_ordered(item, schema.get("items", {})) for item in value]
    return value
