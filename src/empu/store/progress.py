"""Progress of long work on files: a bar, plain lines, or nothing."""

from __future__ import annotations

from typing import Protocol


class TransferProgress(Protocol):
    """Receives the progress of copies, downloads and hashes, one after another."""

    def say(self, sentence: str) -> None:
        """Show a message."""

    def start(self, what: str, total: int | None) -> None:
        """Begin a piece of work; ``total`` is its size in bytes, if known."""

    def advance(self, count: int) -> None:
        """Report ``count`` more bytes; negative if bytes must be processed again."""

    def finish(self) -> None:
        """End the piece of work."""


class SilentProgress:
    """Shows nothing."""

    def say(self, sentence: str) -> None:
        pass

    def start(self, what: str, total: int | None) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def finish(self) -> None:
        pass
