"""JSON Schemas as people mean them: an object that lists its properties has no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OPENING_KEYWORDS = frozenset({
    "additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames", "minProperties", "$ref",
    "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas",
})  # fmt: skip
"""Keywords by which a schema says more about its properties; such a schema stays as it is."""
_SCHEMA_MAPS = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "prefixItems"})
_SCHEMAS = frozenset({"items", "additionalProperties", "contains", "if", "then", "else", "not"})


def close_objects(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with ``additionalProperties: false`` in each object that lists properties and says no more.

    JSON Schema allows unlisted properties there, and models invent them. Schemas inside ``allOf`` stay open, since each
    of them describes a part of the object.
    """
    closed: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _SCHEMA_MAPS and isinstance(value, Mapping):
            closed[keyword] = {name: _close(inner) for name, inner in value.items()}
        elif keyword in _SCHEMA_LISTS and isinstance(value, list):
            closed[keyword] = [_close(inner) for inner in value]
        else:
            closed[keyword] = _close(value) if keyword in _SCHEMAS else value
    is_object = schema.get("type", "object") == "object" and isinstance(schema.get("properties"), Mapping)
    if is_object and not _OPENING_KEYWORDS & schema.keys():
        closed["additionalProperties"] = False
    return closed


def _close(value: Any) -> Any:
    return close_objects(value) if isinstance(value, Mapping) else value
