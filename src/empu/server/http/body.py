"""Reads a request's body: size, JSON, depth, then validation by property."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from empu.server.http.api_keys import key_from_headers
from empu.server.http.app_state import report_ignored
from empu.server.http.request_model import RequestBody
from empu.serving.errors import RequestError
from empu.system.json import JsonDepthError, JsonError, parse_json_object

MAX_BODY_BYTES = 4 << 20
MAX_DEPTH = 32
JSON_TYPES = frozenset({"", "application/json"})
MISLABELLED_TYPES = frozenset({"application/x-www-form-urlencoded", "text/plain"})
"""Types that clients announce for JSON by mistake."""

M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, model: type[M], *, max_bytes: int = MAX_BODY_BYTES) -> M:
    """Return the body, validated as ``model``; report the properties that it ignores.

    Raises :class:`RequestError` (400, 413, 415) with what is wrong.
    """
    _check_content_type(request)
    value = parse_object(await _read_bytes(request, max_bytes))
    try:
        body = model.model_validate(value)
    except ValidationError as error:
        raise validation_error(error, value) from None
    if isinstance(body, RequestBody):
        report_ignored(request, body.ignored_paths)
    return body


def _check_content_type(request: Request) -> None:
    """``curl -d`` announces a form. That is accepted with a key; a page's form could send only a cookie."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_key = key_from_headers(request.headers) is not None
    if content_type not in JSON_TYPES and not (has_key and content_type in MISLABELLED_TYPES):
        raise RequestError(415, f"The body has the type {content_type}; send application/json.", code="content_type")


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse the JSON object in ``data``. Raises :class:`RequestError` (400)."""
    try:
        return parse_json_object(data, max_depth=MAX_DEPTH)
    except JsonDepthError:
        raise RequestError(400, f"The body is nested more than {MAX_DEPTH} levels deep.", code="depth") from None
    except JsonError as error:
        raise RequestError(400, f"The body is not a usable JSON object: {error}.", code="json") from None


def validation_error(error: ValidationError, body: dict[str, Any]) -> RequestError:
    """Convert the error that names the cause best, with the path of its property as the client sent it.

    Lists stop at their first error and objects have a bounded number of properties, so there are few errors.
    """
    errors = error.errors(include_url=False, include_input=False)
    # A property of several types has an error for each. A wrong value says more than a wrong type, and among those
    # the deepest error belongs to the type that was meant.
    first_property = errors[0]["loc"][:1]
    candidates = [(item, _sent_path(item["loc"], body)) for item in errors if item["loc"][:1] == first_property]
    cause, path = max(candidates, key=lambda candidate: (_is_value_error(candidate[0]["type"]), len(candidate[1])))
    name = ".".join(path)
    if cause["type"] == "extra_forbidden":
        return RequestError(400, f"{name} is an unknown property; leave it out.", param=name, code="unknown")
    if cause["type"] == "missing":
        return RequestError(400, f"{name} is missing.", param=name, code="missing")
    reason = cause["msg"].removeprefix("Value error, ")
    if cause["type"] == "too_long":
        reason = f"at most {cause['ctx']['max_length']:,} items are allowed"
    return RequestError(400, f"{name or 'The body'}: {reason}.", param=name or None, code="invalid_value")


def _is_value_error(error_type: str) -> bool:
    return not error_type.endswith("_type")


def _sent_path(loc: tuple[int | str, ...], body: Any) -> list[str]:
    """Return the path without the names of union members, which pydantic puts between the properties."""
    path: list[str] = []
    value = body
    for i, part in enumerate(loc):
        is_last = i == len(loc) - 1
        if isinstance(value, dict) and isinstance(part, str) and (part in value or is_last):
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(str(part))
            value = value[part]
    return path


async def _read_bytes(request: Request, max_bytes: int) -> bytes:
    content_length = request.headers.get("content-length", "")
    if content_length.isascii() and content_length.isdigit() and int(content_length) > max_bytes:
        raise _too_large(max_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(413, f"The body has more than {max_bytes:,} bytes; send less.", code="body_too_large")
