"""Where the user's turns come from: a line editor with history on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

from empu.cli import output
from empu.store.store import Store

BLOCK = '"""'
HISTORY_LINES = 1000


class Terminal:
    """Reads turns. On a terminal it edits lines and remembers them in the store; nothing is written elsewhere."""

    def __init__(self, history: Path) -> None:
        self.history = history
        self.is_watched = sys.stdin.isatty()

    @classmethod
    def of_user(cls) -> Terminal:
        return cls(Store.of_user().home / "chat_history")

    def __enter__(self) -> Terminal:
        if self.is_watched:
            import readline

            if self.history.is_file():
                try:
                    readline.read_history_file(self.history)
                except OSError as error:
                    output.say(f"{self.history} cannot be read ({error.strerror}); beginning with an empty history.")
            readline.set_history_length(HISTORY_LINES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_watched and self.history.parent.is_dir():
            import readline

            try:
                self.history.touch(mode=0o600)
                readline.write_history_file(self.history)
            except OSError as failed:
                output.say(f"{self.history} cannot be written ({failed.strerror}); this history is not kept.")

    def read_turn(self) -> str | None:
        """The user's next turn, over as many lines as it takes; ``None`` at the end of the input.

        Ctrl-C at the prompt drops what was typed.
        """
        while True:
            try:
                return self._read_turn()
            except EOFError:
                return None
            except KeyboardInterrupt:
                if not self.is_watched:
                    raise
                output.say("\n(Ctrl-D or /quit leaves)")

    def _read_turn(self) -> str:
        first = self._line(">>> ")
        if first.lstrip().startswith(BLOCK):
            return self._block(first.lstrip().removeprefix(BLOCK))
        lines = [first]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            if (line := self._further()) is None:
                break
            lines.append(line)
        return "\n".join(lines)

    def _block(self, begun: str) -> str:
        lines = [begun]
        while not lines[-1].rstrip().endswith(BLOCK):
            if (line := self._further()) is None:
                break
            lines.append(line)
        lines[-1] = lines[-1].rstrip().removesuffix(BLOCK)
        return "\n".join(lines).strip("\n")

    def _further(self) -> str | None:
        """Another line of a turn; ``None`` at the end of the input, which ends the turn too."""
        try:
            return self._line("... ")
        except EOFError:
            return None

    def _line(self, prompt: str) -> str:
        if self.is_watched:
            return input(prompt)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")
