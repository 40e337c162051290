"""Reads calls back out of an answer while it is being written: text first, then calls, as a grammar has held it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from empu.serving.tools.dialects import Form


@dataclass(frozen=True, slots=True)
class Text:
    """More text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A call; ``index`` counts from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """More of the JSON of a call's arguments."""

    index: int
    text: str


Part = Text | CallBegins | Arguments


@dataclass(slots=True)
class Call:
    """One call, whole unless the answer was cut."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Read:
    """All that was read of one answer."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Take one more part."""
        if isinstance(part, Text):
            self.text += part.text
        elif isinstance(part, CallBegins):
            self.calls.append(Call(part.id, part.name))
        else:
            self.calls[part.index].arguments += part.text


class ToolReader:
    """Feed it the pieces of one answer, then finish it. Space between a text and a call belongs to neither."""

    def __init__(self, form: Form | None) -> None:
        """``None``: everything is text."""
        self._form = form
        self._held = ""
        self._calling = False
        self._count = 0
        self._depth: _Depth | None = None
        self._only_text = form is None

    @property
    def calls(self) -> int:
        """How many calls were begun."""
        return self._count + (self._depth is not None)

    def feed(self, text: str) -> Iterator[Part]:
        """The parts that ``text`` completes."""
        self._held += text
        while self._form is not None and not self._only_text:
            before = len(self._held), self._calling, self._depth is None
            yield from self._call(self._form) if self._calling else self._text(self._form)
            if before == (len(self._held), self._calling, self._depth is None):
                return
        if self._only_text and self._held:
            yield Text(self._held)
            self._held = ""

    def finish(self) -> Iterator[Part]:
        """What was held back at the end, where it is text."""
        if not self._calling and self._held:
            yield Text(self._held)
        self._held = ""

    def _text(self, form: Form) -> Iterator[Part]:
        place = self._held.find(form.trigger) if form.tagged else 0 if self._held.startswith(form.trigger) else -1
        if place >= 0:
            text = self._held[:place].rstrip()
            self._held = self._held[place:].removeprefix(form.opening if not form.tagged else form.trigger)
            self._calling = True
        elif form.tagged:
            kept = max((n for n in range(1, len(form.trigger)) if self._held.endswith(form.trigger[:n])), default=0)
            text = self._held[: len(self._held) - kept].rstrip()
            self._held = self._held[len(text) :]
        else:
            text = ""
            self._only_text = not form.trigger.startswith(self._held)
        if text:
            yield Text(text)

    def _call(self, form: Form) -> Iterator[Part]:
        if self._depth is None:
            begin = self._held.find(form.head)
            end = self._held.find(form.middle, begin + len(form.head)) if begin >= 0 else -1
            if end >= 0:
                name = self._held[begin + len(form.head) : end]
                self._held = self._held[end + len(form.middle) :]
                self._depth = _Depth()
                yield CallBegins(self._count, f"call_{secrets.token_hex(12)}", name)
            return
        length = self._depth.feed(self._held)
        if length:
            yield Arguments(self._count, self._held[:length])
            self._held = self._held[length:]
        if self._depth.complete:
            self._depth = None
            self._count += 1


class _Depth:
    """Finds the end of one JSON object."""

    def __init__(self) -> None:
        self._open = 0
        self._in_string = self._escaped = False
        self.complete = False

    def feed(self, text: str) -> int:
        """How many characters of ``text`` belong to it."""
        for place, letter in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = letter == "\\"
                self._in_string = letter != '"'
            elif letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._open += 1
            elif letter in "}]":
                self._open -= 1
                if self._open == 0:
                    self.complete = True
                    return place + 1
        return len(text)


def read_whole(form: Form | None, text: str) -> Read:
    """A finished answer."""
    reader, read = ToolReader(form), Read()
    for part in (*reader.feed(text), *reader.finish()):
        read.add(part)
    return read
