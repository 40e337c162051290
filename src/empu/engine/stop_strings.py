"""Stop strings: text is held back while it may still become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopBoundary:
    """Text after which stop strings no longer apply, since a structured part with its own end follows."""

    text: str
    at_start: bool
    """Whether the boundary counts only at the beginning of the output."""


class StopMatcher:
    """Finds the first of several stop strings in streamed text, wherever the stream is cut."""

    def __init__(self, stops: Sequence[str], boundary: StopBoundary | None = None) -> None:
        self._stops = tuple(stops)
        self._boundary = boundary
        self._held = ""
        self._emitted = ""
        """The end of the emitted text, as far as the boundary may begin in it."""
        self.matched: str | None = None
        """The stop string that ended the text."""

    def feed(self, text: str) -> str:
        """Add ``text`` and return what is certainly before any stop string. Empty after a match."""
        if self.matched is not None:
            return ""
        held = self._held + text
        boundary_end = self._boundary_end(held)
        searched = held[:boundary_end]
        hits = [(position, -len(stop), stop) for stop in self._stops if (position := searched.find(stop)) >= 0]
        if hits:
            position, _, self.matched = min(hits)
            self._held = ""
            return held[:position]
        if boundary_end is not None:
            self._stops, self._boundary = (), None
        emit_length = len(held) - self._partial_match_length(held)
        emitted, self._held = held[:emit_length], held[emit_length:]
        if self._boundary is not None:
            tail = self._emitted + emitted
            self._emitted = (
                tail if self._boundary.at_start else tail[max(0, len(tail) - len(self._boundary.text) + 1) :]
            )
        return emitted

    def flush(self) -> str:
        """Return the text that was held back, at the end of the stream."""
        held, self._held = self._held, ""
        return held

    def _boundary_end(self, held: str) -> int | None:
        """Return the position in ``held`` from which stop strings no longer apply; ``None`` where there is none yet."""
        if self._boundary is None:
            return None
        text, boundary = self._emitted + held, self._boundary.text
        position = text.find(boundary)
        if position >= 0 and (position == 0 or not self._boundary.at_start):
            return position + len(boundary) - len(self._emitted)
        if self._boundary.at_start and not boundary.startswith(text):
            self._boundary = None
        return None

    def _partial_match_length(self, text: str) -> int:
        """Return the length of the longest end of ``text`` that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
