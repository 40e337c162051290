"""Reads user turns: with line editing and history on a terminal, as plain lines otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

from empu.cli import output
from empu.store.store import Store

BLOCK_QUOTES = '"""'
MAX_HISTORY_LINES = 1000


class Terminal:
    """Reads turns from stdin. On a terminal, the line history is kept in the store."""

    def __init__(self, history: Path) -> None:
        self.history = history
        self.is_interactive = sys.stdin.isatty()

    @classmethod
    def of_user(cls) -> Terminal:
        return cls(Store.of_user().home / "chat_history")

    def __enter__(self) -> Terminal:
        if self.is_interactive:
            import readline

            if self.history.is_file():
                try:
                    readline.read_history_file(self.history)
                except OSError as error:
                    output.message(f"{self.history} cannot be read ({error.strerror}); starting with an empty history.")
            readline.set_history_length(MAX_HISTORY_LINES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_interactive and self.history.parent.is_dir():
            import readline

            try:
                self.history.touch(mode=0o600)
                readline.write_history_file(self.history)
            except OSError as failed:
                output.message(f"{self.history} cannot be written ({failed.strerror}); this history is not saved.")

    def read_turn(self) -> str | None:
        """Return the next turn, possibly of several lines; ``None`` at the end of the input.

        Ctrl-C at the prompt discards the line.
        """
        while True:
            try:
                return self._read_turn()
            except EOFError:
                return None
            except KeyboardInterrupt:
                if not self.is_interactive:
                    raise
                output.message("\n(Ctrl-D or /quit to quit)")

    def _read_turn(self) -> str:
        first = self._line(">>> ")
        if first.lstrip().startswith(BLOCK_QUOTES):
            return self._block(first.lstrip().removeprefix(BLOCK_QUOTES))
        lines = [first]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            if (line := self._continuation()) is None:
                break
            lines.append(line)
        return "\n".join(lines)

    def _block(self, first_line: str) -> str:
        lines = [first_line]
        while not lines[-1].rstrip().endswith(BLOCK_QUOTES):
            if (line := self._continuation()) is None:
                break
            lines.append(line)
        lines[-1] = lines[-1].rstrip().removesuffix(BLOCK_QUOTES)
        return "\n".join(lines).strip("\n")

    def _continuation(self) -> str | None:
        """Return a further line of the turn; ``None`` at the end of the input."""
        try:
            return self._line("... ")
        except EOFError:
            return None

    def _line(self, prompt: str) -> str:
        if self.is_interactive:
            return input(prompt)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")
