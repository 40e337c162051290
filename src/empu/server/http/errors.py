"""OpenAI's error envelope, which every path but Anthropic's uses."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from empu.serving.errors import RequestError


def error_response(error: RequestError) -> Response:
    """Return the response to a refused request."""
    return JSONResponse({"error": error_body(error)}, error.status, retry_headers(error))


def error_body(error: RequestError) -> dict[str, Any]:
    """Return the ``error`` object of the envelope."""
    types = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    default = "invalid_request_error" if error.status < 500 else "server_error"
    kind = types.get(error.status, default)
    return {"message": error_message(error), "type": kind, "param": error.param, "code": error.code}


def error_message(error: RequestError) -> str:
    """Return the message without lone surrogates, which UTF-8 cannot encode."""
    return str(error).encode("utf-8", "replace").decode()


def retry_headers(error: RequestError) -> dict[str, str] | None:
    """Return the ``Retry-After`` header, if the client should try again."""
    return {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
