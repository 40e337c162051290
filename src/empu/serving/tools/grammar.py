"""Grammar of an answer that may call tools, in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from empu.serving.errors import RequestError
from empu.serving.schemas import close_objects
from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.types import ToolSet

MAX_CALLS = 8
"""Calls in one answer."""


def answer_grammar(dialect: ToolDialect, tools: ToolSet, text_schema: Mapping[str, Any] | None) -> str:
    """Return the grammar of text, or of calls whose arguments match their tool's schema.

    ``text_schema`` is the JSON Schema of the text, if any. Raises :class:`RequestError` if text and calls in this
    dialect could not be told apart.
    """
    if text_schema is not None and not dialect.marker and not tools.choice.required:
        message = "This model writes tool calls as JSON, so tools and a JSON format of the answer cannot be combined."
        raise RequestError(400, message, param="tools", code="unsupported")
    names = [tool.name for tool in tools.callable_tools]
    num_more = MAX_CALLS - 1
    allows_several = tools.choice.parallel and tools.choice.name is None and bool(dialect.separator)
    more = f"({_quote(dialect.separator)} call){{0,{num_more}}}" if allows_several else ""
    closing = f" {_quote(dialect.closing)}" if dialect.closing else ""
    rules = [f"calls: call {more}{closing}", _alternatives("call", len(names))]
    for i, tool in enumerate(tools.callable_tools):
        rules.append(f"call_{i}: {_quote(dialect.head + tool.name + dialect.middle)} arguments_{i} {_quote('}')}")
        rules.append(f"arguments_{i}: %json {_schema(tool.parameters)}")
    opened_calls = f"{_quote(dialect.opening)} calls" if dialect.opening else "calls"
    if tools.choice.required:
        return "\n".join([f"start: {opened_calls}", *rules])
    if text_schema is not None:
        return "\n".join([f"start: text | {opened_calls}", f"text: %json {_schema(text_schema)}", *rules])
    text = ["text: TEXT", f"TEXT: {_text_without_calls(dialect)}"]
    if dialect.marker:
        rest = _quote(dialect.opening.removeprefix(dialect.marker))
        start = [f"start: text | before {rest} calls", f"before[lazy]: /(?s:.*){dialect.marker}/"]
    else:  # opening and first call are one lexeme, since a text may begin like the opening alone
        start = [f"start: text | first {more}{closing}", _alternatives("first", len(names))]
        for i, name in enumerate(names):
            head = _quote(dialect.opening + dialect.head + name + dialect.middle)
            start.append(f"first_{i}: {head} arguments_{i} {_quote('}')}")
    return "\n".join([*start, *text, *rules])


def _alternatives(rule: str, count: int) -> str:
    return f"{rule}: {' | '.join(f'{rule}_{i}' for i in range(count))}"


def _text_without_calls(dialect: ToolDialect) -> str:
    """Return the regular expression of any text that is not a call."""
    trigger = "".join(f"\\x{ord(letter):02x}" for letter in dialect.trigger)
    return f"/(?s:.*)/ & ~/{'(?s:.*)' if dialect.marker else ''}{trigger}(?s:.*)/"


def _schema(schema: Mapping[str, Any]) -> str:
    return json.dumps({**close_objects(schema), "x-guidance": {"whitespace_flexible": False}})


def _quote(text: str) -> str:
    return json.dumps(text)
