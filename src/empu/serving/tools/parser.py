"""Parses an answer while it is generated: text first, then tool calls."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from empu.serving.tools.dialect import ToolDialect


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A new call; ``index`` counts from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More of the JSON of a call's arguments."""

    index: int
    text: str


OutputDelta = ContentDelta | ToolCallStart | ArgumentsDelta


@dataclass(slots=True)
class ParsedCall:
    """One call; its arguments are complete unless the answer was cut."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class ParsedAnswer:
    """Text and calls of one answer."""

    text: str = ""
    calls: list[ParsedCall] = field(default_factory=list)

    def add(self, delta: OutputDelta) -> None:
        """Append one delta."""
        if isinstance(delta, ContentDelta):
            self.text += delta.text
        elif isinstance(delta, ToolCallStart):
            self.calls.append(ParsedCall(delta.id, delta.name))
        else:
            self.calls[delta.index].arguments += delta.text


class ToolCallParser:
    """Incremental parser of one answer: call :meth:`feed` for each piece of text, then :meth:`finish`.

    White space between text and a call belongs to neither. A call that repeats an earlier one is left out.
    """

    def __init__(self, dialect: ToolDialect | None) -> None:
        """Without a dialect everything is text."""
        self._dialect = dialect
        self._buffer = ""
        self._in_calls = False
        self._calls = _CallFilter()
        self._arguments: _JsonObjectScanner | None = None
        self._only_text = dialect is None

    @property
    def num_calls(self) -> int:
        """Number of calls so far, the incomplete one included."""
        return self._calls.num_calls

    @property
    def has_repeated(self) -> bool:
        """Whether a call repeated an earlier one."""
        return self._calls.has_repeated

    def feed(self, text: str) -> Iterator[OutputDelta]:
        """Yield the deltas that ``text`` completes."""
        self._buffer += text
        while self._dialect is not None and not self._only_text:
            before = len(self._buffer), self._in_calls, self._arguments is None
            yield from self._parse_call(self._dialect) if self._in_calls else self._parse_text(self._dialect)
            if before == (len(self._buffer), self._in_calls, self._arguments is None):
                return
        if self._only_text and self._buffer:
            yield ContentDelta(self._buffer)
            self._buffer = ""

    def finish(self) -> Iterator[OutputDelta]:
        """Yield the text that was still held back."""
        if not self._in_calls and self._buffer:
            yield ContentDelta(self._buffer)
        self._buffer = ""

    def _parse_text(self, dialect: ToolDialect) -> Iterator[OutputDelta]:
        if dialect.marker:
            start = self._buffer.find(dialect.marker)
        else:
            start = 0 if self._buffer.startswith(dialect.trigger) else -1
        if start >= 0:
            text = self._buffer[:start].rstrip()
            self._buffer = self._buffer[start:].removeprefix(dialect.marker or dialect.opening)
            self._in_calls = True
        elif dialect.marker:
            held = max(
                (n for n in range(1, len(dialect.marker)) if self._buffer.endswith(dialect.marker[:n])), default=0
            )
            text = self._buffer[: len(self._buffer) - held].rstrip()
            self._buffer = self._buffer[len(text) :]
        else:
            text = ""
            self._only_text = not dialect.trigger.startswith(self._buffer)
        if text:
            yield ContentDelta(text)

    def _parse_call(self, dialect: ToolDialect) -> Iterator[OutputDelta]:
        if self._arguments is None:
            start = self._buffer.find(dialect.head)
            end = self._buffer.find(dialect.middle, start + len(dialect.head)) if start >= 0 else -1
            if end >= 0:
                name = self._buffer[start + len(dialect.head) : end]
                self._buffer = self._buffer[end + len(dialect.middle) :]
                self._arguments = _JsonObjectScanner()
                yield from self._calls.start(name)
            return
        length = self._arguments.feed(self._buffer)
        if length:
            yield from self._calls.add(self._buffer[:length])
            self._buffer = self._buffer[length:]
        if self._arguments.is_complete:
            self._arguments = None
            self._calls.end()


def _overlap(text: str, marker: str) -> int:
    """Return the length of the longest end of ``text`` that ``marker`` may continue."""
    return max((n for n in range(1, len(marker)) if text.endswith(marker[:n])), default=0)


class _CallFilter:
    """Yields the deltas of calls, without the calls that repeat an earlier one.

    A call is held back while its arguments are the beginning of those of an earlier call of the same tool.
    """

    def __init__(self) -> None:
        self.num_calls = 0
        self.has_repeated = False
        self._earlier: list[ParsedCall] = []
        self._current = ParsedCall("", "")
        self._is_held = False

    def start(self, name: str) -> Iterator[OutputDelta]:
        self._current = ParsedCall(f"call_{secrets.token_hex(12)}", name)
        self._is_held = True
        yield from self._release()

    def add(self, arguments: str) -> Iterator[OutputDelta]:
        self._current.arguments += arguments
        if self._is_held:
            yield from self._release()
        else:
            yield ArgumentsDelta(self.num_calls - 1, arguments)

    def end(self) -> None:
        if self._is_held:
            self.has_repeated = True
        else:
            self._earlier.append(self._current)

    def _release(self) -> Iterator[OutputDelta]:
        current = self._current
        if any(call.name == current.name and call.arguments.startswith(current.arguments) for call in self._earlier):
            return
        self._is_held = False
        self.num_calls += 1
        yield ToolCallStart(self.num_calls - 1, current.id, current.name)
        if current.arguments:
            yield ArgumentsDelta(self.num_calls - 1, current.arguments)


class _JsonObjectScanner:
    """Finds the end of one JSON object in a stream of text."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._is_escaped = False
        self.is_complete = False

    def feed(self, text: str) -> int:
        """Return how many characters of ``text`` belong to the object."""
        for i, character in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._in_string:
                self._is_escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    return i + 1
        return len(text)


def parse_answer(dialect: ToolDialect | None, text: str) -> ParsedAnswer:
    """Parse a complete answer."""
    parser, answer = ToolCallParser(dialect), ParsedAnswer()
    for delta in (*parser.feed(text), *parser.finish()):
        answer.add(delta)
    return answer
