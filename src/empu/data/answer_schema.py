"""Infer the JSON Schema that all answers of a data set follow, so that a specialist's answers always parse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LENGTH_FACTOR = 4
"""Strings and lists may be this many times longer than the longest in the data, so that an answer ends."""

MIN_DICTIONARY_KEYS = 3
"""Objects with fewer different keys are records with optional fields, not dictionaries."""


def infer_schema(answers: Iterable[str]) -> dict[str, Any] | None:
    """Return the schema of answers that are all JSON objects, or ``None``.

    Keys keep the order of their first occurrence. A key is required if every answer has it. Types are those that occur.
    """
    values = []
    for answer in answers:
        if (value := parse_object(answer)) is None:
            return None
        values.append(value)
    return _schema(values) if any(values) else None


def canonical_answer(answer: str, schema: Mapping[str, Any]) -> str:
    """Return an answer as constrained decoding writes it: keys in the schema's order, no optional spaces.

    An answer that is not a JSON object, as held-out rows may have, is returned unchanged.
    """
    value = parse_object(answer)
    return answer if value is None else json.dumps(_ordered(value, schema), ensure_ascii=False, separators=(",", ":"))


def parse_object(answer: str) -> dict[str, Any] | None:
    """Return an answer as a JSON object, or ``None`` if it is cut off or not an object."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _schema(values: Sequence[Any]) -> dict[str, Any]:
    types = list(dict.fromkeys(_type_name(value) for value in values))
    if "number" in types and "integer" in types:
        types.remove("integer")
    schema: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    if strings := [value for value in values if isinstance(value, str)]:
        schema["maxLength"] = LENGTH_FACTOR * max(16, *(len(string) for string in strings))
    if lists := [value for value in values if isinstance(value, list)]:
        items = [item for inner in lists for item in inner]
        schema["maxItems"] = LENGTH_FACTOR * max(1, *(len(inner) for inner in lists))
        if items:
            schema["items"] = _schema(items)
    if objects := [value for value in values if isinstance(value, dict)]:
        schema |= _dictionary_schema(objects) if _is_dictionary(objects) else _record_schema(objects)
    return schema


def _record_schema(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for item in objects for key in item))
    return {
        "properties": {key: _schema([item[key] for item in objects if key in item]) for key in keys},
        "required": [key for key in keys if all(key in item for item in objects)],
        "additionalProperties": False,
    }


def _dictionary_schema(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [value for item in objects for value in item.values()]
    return {"properties": {}, "required": [], "additionalProperties": _schema(values)}


def _is_dictionary(objects: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the keys are data, such as names of products: no key occurs in half of the objects."""
    counts: dict[str, int] = {}
    for item in objects:
        for key in item:
            counts[key] = counts.get(key, 0) + 1
    if len(objects) < 2 or len(counts) < MIN_DICTIONARY_KEYS or 2 * max(counts.values()) >= len(objects):
        return False
    types = {_type_name(value) for item in objects for value in item.values()}
    return len(types - {"null"} - ({"integer"} if "number" in types else set())) <= 1


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _ordered(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        known = {key: _ordered(value[key], properties[key]) for key in properties if key in value}
        if not isinstance(others, dict):
            return known
        return known | {key: _ordered(inner, others) for key, inner in value.items() if key not in properties}
    if isinstance(value, list):
        return [_ordered(item, schema.get("items", {})) for item in value]
    return value
