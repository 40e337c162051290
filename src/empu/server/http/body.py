"""From the bytes of a request's body to a checked value: size, JSON, depth, then every property by name."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from empu.serving.errors import ProblemError

MAX_BODY_BYTES = 4 << 20
MAX_DEPTH = 32
_NESTS = frozenset({dict, list})

M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, model: type[M], *, most: int = MAX_BODY_BYTES) -> M:
    """The body, of at most ``most`` bytes, as ``model``.

    Raises :class:`ProblemError` (400, 413, 415) naming what is wrong.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, f"The body is {kind or 'of no type'}; send application/json.", code="content_type")
    value = parse(await _bytes(request, most))
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(error) from None


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
        if re.search(rb"\\u[dD][89a-fA-F]", data):
            json.dumps(value, ensure_ascii=False).encode()  # fails for half of a character
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ProblemError(400, f"The body is not JSON ({error}).", code="json") from None
    if not isinstance(value, dict):
        raise ProblemError(400, "The body is not a JSON object; send one in braces.", code="json")
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _NESTS and inner
        ]
        if not level:
            return value
    raise _too_deep()


def refusal(error: ValidationError) -> ProblemError:
    """The first thing that validation found, with the name of its property.

    Lists stop at their first error and objects have a bounded number of properties, so that there are few to look at.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    # Where a property may be of several types, what lies deepest was meant.
    first = max((one for one in found if one["loc"][:1] == found[0]["loc"][:1]), key=lambda one: len(one["loc"]))
    # Names of union members are no part of the path that a sender wrote.
    path = [str(part) for part in first["loc"] if isinstance(part, int) or (part.isidentifier() and part != "str")]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        return ProblemError(
            400, f"{name} is not a property that Empu knows here; leave it out.", param=name, code="unknown"
        )
    if first["type"] == "missing":
        return ProblemError(400, f"{name} is missing.", param=name, code="missing")
    reason = first["msg"].removeprefix("Value error, ")
    return ProblemError(400, f"{name or 'The body'}: {reason}.", param=name or None, code="invalid_value")


async def _bytes(request: Request, most: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > most:
        raise _too_large(most)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, f"The body has more than {most:,} bytes; send less.", code="body_too_large")


def _too_deep() -> ProblemError:
    return ProblemError(400, f"The body is nested more than {MAX_DEPTH} levels deep.", code="depth")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
