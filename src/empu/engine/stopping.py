"""Where an answer ends: text is held back while it may still become a stop string."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Finds the first of several stop strings in text that comes in pieces, whatever the pieces' borders."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    def feed(self, text: str) -> str:
        """The part of the text so far that is certainly before any stop string. Empty once one was found."""
        if self.found is not None:
            return ""
        held = self._held + text
        hits = [(position, -len(stop), stop) for stop in self._stops if (position := held.find(stop)) >= 0]
        if hits:
            position, _, self.found = min(hits)
            self._held = ""
            return held[:position]
        keep = self._open_end(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held

    def _open_end(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
