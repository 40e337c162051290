"""Typed access to the properties of JSON objects that describe models.

Each failure names the property and what was expected. ``where`` begins the error message. As in transformers, a
property that is null counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from empu.errors import CheckpointError
from empu.system.json import json_kind

Json = Mapping[str, Any]


def required_int(config: Json, key: str, where: str) -> int:
    """Return an integer that must be present. ``4096.0`` and ``true`` are not integers."""
    value = optional_int(config, key, where)
    if value is None:
        raise CheckpointError(f"{where}: {key} is missing; the shape of the model cannot be known without it.")
    return value


def optional_int(config: Json, key: str, where: str) -> int | None:
    """Return an integer, or ``None`` when it is absent."""
    value = config.get(key)
    if value is None or type(value) is int:
        return value
    raise CheckpointError(f"{where}: {key} is {json_kind(value)}; expected a whole number.")


def get_float(config: Json, key: str, where: str, default: float | None = None) -> float:
    """Return a number as a float, or ``default`` when it is absent. Without a default it must be present."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CheckpointError(
            f"{where}: {key} is {'missing' if value is None else json_kind(value)}; expected a number."
        )
    try:
        return float(value)
    except OverflowError:
        raise CheckpointError(f"{where}: {key} is too large for a number.") from None


def get_bool(config: Json, key: str, where: str) -> bool:
    """Return a boolean; false when it is absent."""
    value = config.get(key)
    if value is None or type(value) is bool:
        return bool(value)
    raise CheckpointError(f"{where}: {key} is {json_kind(value)}; expected true or false.")


def optional_object(config: Json, key: str, where: str) -> Json | None:
    """Return a nested object, or ``None`` when it is absent."""
    value = config.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise CheckpointError(f"{where}: {key} is {json_kind(value)}; expected an object.")
