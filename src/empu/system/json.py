"""Strict, bounded JSON: the one reader for model files, HTTP requests and the store's files.

It is stricter than Python's ``json``, so that a document means the same to every reader. Knows nothing of files.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from empu.system.quoting import quoted

MAX_JSON_BYTES = 16 << 20
"""Default size limit. The safetensors header of Llama 3.1 405B, the largest of its family, has about 150 KB."""
MAX_JSON_DEPTH = 64
"""Default limit on nested objects and lists."""

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """The data is not strict JSON or exceeds a limit. The message is a clause such as "byte 3 is not UTF-8 text"."""


class JsonDepthError(JsonError):
    """Objects and lists are nested too deeply."""


def parse_json(data: bytes, *, max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Parse JSON as defined by RFC 8259, with the restrictions of I-JSON (RFC 7493).

    Raises :class:`JsonError` for data above ``max_bytes``, text that is not UTF-8, a key that occurs twice in one
    object, NaN and Infinity, numbers beyond the range of a float, and unpaired surrogates. Raises
    :class:`JsonDepthError` for nesting above ``max_depth``. ``-0`` becomes a float, so that it cannot pass as a length.
    """
    if len(data) > max_bytes:
        raise JsonError(f"it has more than {max_bytes:,} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
            parse_float=_parse_float,
        )
        if _SURROGATE_ESCAPE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"byte {error.start:,} is not UTF-8 text") from None
    except UnicodeEncodeError:
        raise JsonError("a string holds half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg.removesuffix(' at')} at character {error.pos:,}") from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    _check_depth(value, max_depth)
    return value


def parse_json_object(
    data: bytes, *, max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_JSON_DEPTH
) -> dict[str, Any]:
    """Parse a JSON object; see :func:`parse_json`. Raises :class:`JsonError` for any other kind of value."""
    value = parse_json(data, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(value, dict):
        raise JsonError(f"it holds {json_kind(value)}; expected an object")
    return value


def json_kind(value: object) -> str:
    """Return what kind of JSON value this is, in words."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}
    return names.get(type(value), "a number with a fraction")


def _check_depth(value: object, max_depth: int) -> None:
    containers: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(max_depth):
        containers = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
            if item and isinstance(item, (dict, list))
        ]
        if not containers:
            return
    raise _too_deep(max_depth)


def _too_deep(max_depth: int) -> JsonDepthError:
    return JsonDepthError(f"it is nested more than {max_depth} levels deep")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise JsonError(f"the key {quoted(key)} occurs twice in one object")
        result[key] = value
    return result


def _refuse_constant(name: str) -> float:
    raise JsonError(f"{name} is not a JSON number")


def _parse_int(digits: str) -> int | float:
    try:
        return -0.0 if digits == "-0" else int(digits)
    except ValueError:  # Python limits the digits of one integer
        raise JsonError("a number is too long") from None


def _parse_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise JsonError(f"the number {quoted(digits)} is too large")
    return value
