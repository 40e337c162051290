"""Every error that a user can meet derives from :class:`EmpuError`.

The message is one sentence: what is wrong, where, and what to do next. The CLI prints it without a traceback;
the server turns it into each API's own envelope. A ``ValueError`` or ``TypeError`` that escapes is a bug of ours.
"""

from __future__ import annotations


class EmpuError(Exception):
    """Root of all errors that are meant to be read by a user."""

    exit_code = 1


class UsageError(EmpuError):
    """The command or call was given something that it cannot mean."""

    exit_code = 2


class AnsweredError(EmpuError):
    """A command whose answer is given already, in full, and is no success: nothing more is said to programs."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class ConfigError(EmpuError):
    """A hyper-parameter is missing, of the wrong type or out of range."""


class CheckpointError(EmpuError):
    """A model file is damaged, incomplete or hostile; the message names the key or tensor and the byte offset."""


class UnsupportedError(CheckpointError):
    """A valid file that is not ours to open: another architecture, another tensor type."""


class TokenizerError(EmpuError):
    """A vocabulary, its merges or its special tokens cannot be used."""


class TemplateError(EmpuError):
    """A chat template failed, was refused by the sandbox or ran past its limits."""


class PromptTooLongError(EmpuError):
    """The prompt does not fit; it is never cut unless that was asked for."""

    def __init__(self, prompt_tokens: int, limit: int, hint: str = "") -> None:
        self.prompt_tokens = prompt_tokens
        self.limit = limit
        advice = hint or "shorten it, or pass --truncate to drop its oldest tokens"
        super().__init__(f"The prompt has {prompt_tokens:,} tokens and at most {limit:,} fit in the context; {advice}.")


class StoreError(EmpuError):
    """The store (``~/.empu`` or ``EMPU_HOME``) lacks something, or holds something that changed."""


class DownloadError(EmpuError):
    """A file could not be fetched, or what came is not what was asked for."""


class NoRoomError(EmpuError):
    """The memory for sequences is taken; there is room again when others have ended."""


class MissingDependencyError(EmpuError):
    """An optional part is not installed; the message says which command installs it."""


class BusyError(EmpuError):
    """More was asked for at once than the queue holds."""

    def __init__(self, waiting: int, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{waiting} requests wait already and the queue holds no more; try again in {retry_after_s} s, or start "
            "the server with a longer --queue."
        )


class CancelledError(EmpuError):
    """The user stopped the work."""

    exit_code = 130
