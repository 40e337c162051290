"""Anthropic's error envelope."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from empu.server.http.errors import error_message, retry_headers
from empu.serving.errors import RequestError

OVERLOADED = 529
"""Anthropic's status for a full queue."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "overloaded_error",
}


def error_response(error: RequestError, request_id: str) -> Response:
    """Return the response to a refused request."""
    status = OVERLOADED if error.status == 429 else error.status
    return JSONResponse(error_body(error, request_id), status, retry_headers(error))


def error_body(error: RequestError, request_id: str) -> dict[str, Any]:
    """Return the envelope, with the request id of the headers and the log."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error_message(error)}, "request_id": request_id}
