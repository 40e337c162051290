"""What can go wrong with a request, before it is put into one interface's words."""

from __future__ import annotations

import logging

from empu.errors import (
    BusyError,
    CheckpointError,
    EmpuError,
    PromptTooLongError,
    StoreError,
    TemplateError,
    TokenizerError,
    UsageError,
)


class ProblemError(EmpuError):
    """A request that is refused: status, sentence, the property that is wrong, and a code for programs."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int = 0
    ) -> None:
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        super().__init__(message)


_REFUSED = (UsageError, TemplateError, TokenizerError)


def problem_of(error: Exception, prompt: str = "messages") -> ProblemError:
    """Any error as a refusal; what is no :class:`EmpuError` is a mistake of ours and says nothing of its inside.
    ``prompt`` is the property that may be too long.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, PromptTooLongError):
        message = str(error)
        return ProblemError(400, message, param=prompt, code="context_length_exceeded")
    if isinstance(error, BusyError):
        return ProblemError(429, str(error), code="queue_full", retry_after_s=error.retry_after_s)
    if isinstance(error, _REFUSED):
        return ProblemError(400, str(error), code="invalid_value")
    if isinstance(error, StoreError):
        return ProblemError(503, str(error), code="store")
    if isinstance(error, CheckpointError):
        return ProblemError(500, str(error), code="model")
    if isinstance(error, EmpuError):
        return ProblemError(503, str(error), code="unavailable", retry_after_s=5)
    logging.getLogger("empu.server").error("a request failed", exc_info=error)
    return ProblemError(500, "Empu made a mistake of its own; the server's log says where.", code="internal")
