"""An answer as a list of output items, its text and its tool calls, with the events that build them.

Anthropic's content blocks and the items of OpenAI's responses are both written from these events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from empu.engine.outputs import Completion, TextDelta
from empu.serving.completions import AnyStream
from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.parser import ContentDelta, OutputDelta, ToolCallParser, ToolCallStart


@dataclass(slots=True)
class OutputItem:
    """Text, or a tool call whose JSON arguments are ``text``. ``call_id`` and ``name`` belong to calls only."""

    index: int
    call_id: str | None = None
    name: str = ""
    text: str = ""
    is_complete: bool = False

    @property
    def is_call(self) -> bool:
        """Whether the item is a tool call."""
        return self.call_id is not None


@dataclass(frozen=True, slots=True)
class ItemStart:
    """A new item, still empty."""

    item: OutputItem


@dataclass(frozen=True, slots=True)
class ItemDelta:
    """More text of an item, already appended to it."""

    item: OutputItem
    text: str


@dataclass(frozen=True, slots=True)
class ItemEnd:
    """An item ended; it is complete unless the answer was cut."""

    item: OutputItem


ItemEvent = ItemStart | ItemDelta | ItemEnd


class ItemBuilder:
    """Builds the items of one answer."""

    def __init__(self, dialect: ToolDialect | None) -> None:
        self.items: list[OutputItem] = []
        self._parser = ToolCallParser(dialect)
        self._open: OutputItem | None = None

    @property
    def has_calls(self) -> bool:
        """Whether there is a tool call among the items."""
        return any(item.is_call for item in self.items)

    def feed(self, text: str) -> Iterator[ItemEvent]:
        """Add the next piece of the answer."""
        for delta in self._parser.feed(text):
            yield from self._add(delta)

    def finish(self, *, is_cut: bool) -> Iterator[ItemEvent]:
        """End the last item. An answer has at least one item. ``is_cut``: the length limit ended the answer."""
        for delta in self._parser.finish():
            yield from self._add(delta)
        if not self.items:
            yield self._start(OutputItem(0))
        yield from self._end(is_complete=not is_cut)

    def _add(self, delta: OutputDelta) -> Iterator[ItemEvent]:
        if isinstance(delta, ToolCallStart):
            yield from self._end(is_complete=True)
            yield self._start(OutputItem(len(self.items), delta.id, delta.name))
            return
        if isinstance(delta, ContentDelta) and self._open is None:
            yield self._start(OutputItem(len(self.items)))
        item = self.items[-1]
        item.text += delta.text
        yield ItemDelta(item, delta.text)

    def _start(self, item: OutputItem) -> ItemStart:
        self.items.append(item)
        self._open = item
        return ItemStart(item)

    def _end(self, *, is_complete: bool) -> Iterator[ItemEvent]:
        if self._open is not None:
            self._open.is_complete = is_complete
            yield ItemEnd(self._open)
            self._open = None


async def stream_items(stream: AnyStream, builder: ItemBuilder) -> AsyncIterator[ItemEvent | Completion]:
    """Yield the events of the only completion of ``stream``, then the completion itself."""
    async for _, update in stream:
        if isinstance(update, TextDelta):
            for event in builder.feed(update.text):
                yield event
        else:
            for event in builder.finish(is_cut=update.finish_reason == "length"):
                yield event
            yield update


def parse_items(dialect: ToolDialect | None, completion: Completion) -> ItemBuilder:
    """Return the items of a finished completion."""
    builder = ItemBuilder(dialect)
    for _ in (*builder.feed(completion.text), *builder.finish(is_cut=completion.finish_reason == "length")):
        pass
    return builder
