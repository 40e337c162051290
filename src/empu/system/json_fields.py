"""Typed look-ups in the JSON objects that describe models; each failure names the key and what was expected.

``where`` opens the message. A key that is null counts as absent, as in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from empu.errors import CheckpointError

Json = Mapping[str, Any]


def integer(config: Json, key: str, where: str) -> int:
    """A whole number that must be there. ``4096.0`` and ``true`` are none."""
    value = optional_integer(config, key, where)
    if value is None:
        raise CheckpointError(f"{where}: {key} is missing; the shape of the model cannot be known without it.")
    return value


def optional_integer(config: Json, key: str, where: str) -> int | None:
    """A whole number, or ``None`` where there is none."""
    value = config.get(key)
    if value is None or type(value) is int:
        return value
    raise CheckpointError(f"{where}: {key} is {_kind(value)}; expected a whole number.")


def number(config: Json, key: str, where: str, default: float | None = None) -> float:
    """A number, whole or not; ``default`` where there is none."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CheckpointError(f"{where}: {key} is {_kind(value)}; expected a number.")
    try:
        return float(value)
    except OverflowError:
        raise CheckpointError(f"{where}: {key} is too large for a number.") from None


def flag(config: Json, key: str, where: str) -> bool:
    """True or false; false where there is none."""
    value = config.get(key)
    if value is None or type(value) is bool:
        return bool(value)
    raise CheckpointError(f"{where}: {key} is {_kind(value)}; expected true or false.")


def block(config: Json, key: str, where: str) -> Json | None:
    """An object inside the object, or ``None`` where there is none."""
    value = config.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise CheckpointError(f"{where}: {key} is {_kind(value)}; expected an object.")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}
    return "missing" if value is None else names.get(type(value), "a number with a fraction")
