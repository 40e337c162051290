"""Errors for users. All of them derive from :class:`EmpuError`.

The message says what is wrong, where, and what to do next. The CLI prints it without a traceback, and the server
converts it to the error format of each API. Any other exception that escapes is a bug.
"""

from __future__ import annotations


class EmpuError(Exception):
    """Base class of all errors with a message for users."""

    exit_code = 1


class UsageError(EmpuError):
    """The command or call has invalid arguments."""

    exit_code = 2


class ReportedError(EmpuError):
    """A failure whose complete output has been printed already, so only the exit code remains."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class ConfigError(EmpuError):
    """A hyper-parameter is missing, has the wrong type or is out of range."""


class CheckpointError(EmpuError):
    """A model file is damaged, incomplete or hostile. The message names the key or tensor and the byte offset."""


class UnsupportedError(CheckpointError):
    """A valid file that Empu does not support: another architecture or tensor type."""


class TokenizerError(EmpuError):
    """A tokenizer is missing, damaged or unsuitable."""


class TemplateError(EmpuError):
    """A chat template failed, was refused by the sandbox or exceeded its budget."""


class DialogueRefusedError(TemplateError):
    """A chat template refuses a dialogue; ``reason`` is the template's own message."""

    def __init__(self, where: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The chat template of {where} refuses this dialogue: {reason}")


class PromptTooLongError(EmpuError):
    """The prompt does not fit into the context. It is truncated on request only."""

    def __init__(self, prompt_tokens: int, limit: int, hint: str = "") -> None:
        self.prompt_tokens = prompt_tokens
        self.limit = limit
        remedy = hint or "shorten it, or pass --truncate to drop its oldest tokens"
        super().__init__(f"The prompt has {prompt_tokens:,} tokens and at most {limit:,} fit in the context; {remedy}.")


class StoreError(EmpuError):
    """Something in the store (``~/.empu`` or ``EMPU_HOME``) is missing, damaged or changed."""


class DownloadError(EmpuError):
    """A file could not be downloaded, or its content is not the expected one."""


class CacheFullError(EmpuError):
    """The KV cache has no memory for another sequence until others end."""


class MissingDependencyError(EmpuError):
    """An optional dependency is not installed. The message says which command installs it."""


class QueueFullError(EmpuError):
    """The request queue is full."""

    def __init__(self, queue_length: int, retry_after_s: int = 1) -> None:
        """``queue_length`` is how many requests may wait."""
        self.retry_after_s = retry_after_s
        super().__init__(
            f"The queue is full: it holds {queue_length} requests; try again in {retry_after_s} s, or start the server "
            "with a longer --queue."
        )


class CancelledError(EmpuError):
    """The user cancelled the command."""

    exit_code = 130
