"""How long work tells whoever watches: a bar, a plain line, or nobody."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told about one piece of work after another."""

    def say(self, sentence: str) -> None:
        """One line for people."""

    def start(self, what: str, total: int | None) -> None:
        """Work on ``what`` begins; ``total`` is its size in bytes where that is known."""

    def advance(self, count: int) -> None:
        """``count`` more bytes are done; negative when some must be done again."""

    def finish(self) -> None:
        """The work that began last is done."""


class Silent:
    """Nobody watches."""

    def say(self, sentence: str) -> None:
        pass

    def start(self, what: str, total: int | None) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def finish(self) -> None:
        pass
