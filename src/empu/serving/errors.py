"""Errors of a request, before an interface formats them."""

from __future__ import annotations

import logging

from empu.errors import (
    CheckpointError,
    EmpuError,
    PromptTooLongError,
    QueueFullError,
    StoreError,
    TemplateError,
    TokenizerError,
    UsageError,
)


class RequestError(EmpuError):
    """A refused request: HTTP status, message, the wrong property (``param``) and an error code."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int = 0
    ) -> None:
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        super().__init__(message)


_INVALID_VALUES = (UsageError, TemplateError, TokenizerError)


def to_request_error(error: Exception, prompt_param: str = "messages") -> RequestError:
    """Convert any exception. ``prompt_param`` names the property that holds the prompt.

    An exception that is not an :class:`EmpuError` is logged and becomes a 500 without its text.
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, PromptTooLongError):
        return RequestError(400, str(error), param=prompt_param, code="context_length_exceeded")
    if isinstance(error, QueueFullError):
        return RequestError(429, str(error), code="queue_full", retry_after_s=error.retry_after_s)
    if isinstance(error, _INVALID_VALUES):
        return RequestError(400, str(error), code="invalid_value")
    if isinstance(error, StoreError):
        return RequestError(503, str(error), code="store")
    if isinstance(error, CheckpointError):
        return RequestError(500, str(error), code="model")
    if isinstance(error, EmpuError):
        return RequestError(503, str(error), code="unavailable", retry_after_s=5)
    logging.getLogger("empu.server").error("Internal error", exc_info=error)
    return RequestError(500, "Internal error; the server's log has the details.", code="internal")
