"""Where an answer ends: text is held back while it may still become a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Until:
    """Text behind which no stop string counts, since a form follows that has an end of its own."""

    text: str
    at_start: bool
    """Only where the answer begins with it."""


class StopMatcher:
    """Finds the first of several stop strings in text that comes in pieces, whatever the pieces' borders."""

    def __init__(self, stops: Sequence[str], until: Until | None = None) -> None:
        self._stops = tuple(stops)
        self._until = until
        self._held = ""
        self._shown = ""
        """The end of what was not held back, as far as ``until`` may begin in it."""
        self.found: str | None = None
        """The stop string that ended the text."""

    def feed(self, text: str) -> str:
        """The part of the text so far that is certainly before any stop string. Empty once one was found."""
        if self.found is not None:
            return ""
        held = self._held + text
        end = self._end(held)
        reach = held[:end]
        hits = [(position, -len(stop), stop) for stop in self._stops if (position := reach.find(stop)) >= 0]
        if hits:
            position, _, self.found = min(hits)
            self._held = ""
            return held[:position]
        if end is not None:
            self._stops, self._until = (), None
        keep = self._open_end(held)
        self._held = held[len(held) - keep :]
        shown = held[: len(held) - keep]
        if self._until is not None:
            seen = self._shown + shown
            self._shown = seen if self._until.at_start else seen[max(0, len(seen) - len(self._until.text) + 1) :]
        return shown

    def flush(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held

    def _end(self, held: str) -> int | None:
        """Where in ``held`` stop strings cease to count."""
        if self._until is None:
            return None
        seen, wanted = self._shown + held, self._until.text
        place = seen.find(wanted)
        if place >= 0 and (place == 0 or not self._until.at_start):
            return place + len(wanted) - len(self._shown)
        if self._until.at_start and not wanted.startswith(seen):
            self._until = None
        return None

    def _open_end(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
