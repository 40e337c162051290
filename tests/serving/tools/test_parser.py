"""Parsing of answers with tool calls, in pieces of any size."""

from __future__ import annotations

import json

import pytest

from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.hermes import PROMPTED
from empu.serving.tools.llama3 import LLAMA3
from empu.serving.tools.mistral import MISTRAL
from empu.serving.tools.parser import (
    ArgumentsDelta,
    ContentDelta,
    ParsedAnswer,
    ToolCallParser,
    ToolCallStart,
    parse_answer,
)


@pytest.mark.parametrize("dialect", [PROMPTED, LLAMA3, MISTRAL], ids=["prompted", "llama3", "mistral"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_parsed_whatever_the_size_of_the_pieces(dialect: ToolDialect, size: int) -> None:
    first, second = {"a": 'x}"{[\\'}, {"b": [{"c": "</tool_call>"}]}
    calls = [dialect.format_call("one", first)] + ([dialect.format_call("two", second)] if dialect.separator else [])
    before = "Let me see. < <tool" if dialect.marker else ""
    answer_text = (before + "\n" if before else "") + dialect.opening + dialect.separator.join(calls) + dialect.closing
    parser, answer = ToolCallParser(dialect), ParsedAnswer()
    for start in range(0, len(answer_text), size):
        for delta in parser.feed(answer_text[start : start + size]):
            answer.add(delta)
    for delta in parser.finish():
        answer.add(delta)
    assert answer.text == before
    assert [json.loads(call.arguments) for call in answer.calls] == [first, second][: len(calls)]
    assert [call.name for call in answer.calls] == ["one", "two"][: len(calls)]
    assert len({call.id for call in answer.calls}) == len(calls)


@pytest.mark.parametrize("dialect", [PROMPTED, LLAMA3, MISTRAL, None], ids=["prompted", "llama3", "mistral", "none"])
@pytest.mark.parametrize("text", ["", "Hello  ", '{"nam', '{"nope": 1}', "[1]", "a <tool_cal", "\n <b> \n"])
def test_text_without_calls_is_unchanged(dialect: ToolDialect | None, text: str) -> None:
    parser = ToolCallParser(dialect)
    deltas = [delta for character in text for delta in parser.feed(character)] + list(parser.finish())
    assert all(isinstance(delta, ContentDelta) for delta in deltas)
    assert "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)) == text
    assert parse_answer(dialect, text).text == text


def test_an_answer_cut_within_a_call_gives_the_arguments_so_far() -> None:
    deltas = list(ToolCallParser(PROMPTED).feed('Hm\n<tool_call>\n{"name": "one", "arguments": {"a": "b'))
    assert [type(delta) for delta in deltas] == [ContentDelta, ToolCallStart, ArgumentsDelta]
    assert deltas[2] == ArgumentsDelta(0, '{"a": "b')


@pytest.mark.parametrize("dialect", [PROMPTED, MISTRAL], ids=["prompted", "mistral"])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_call_that_repeats_an_earlier_one_is_left_out(dialect: ToolDialect, size: int) -> None:
    calls = [("mail", {"to": "a"}), ("mail", {"to": "ab"}), ("mail", {"to": "a"}), ("clock", {}), ("clock", {})]
    answer_text = dialect.format_calls(calls)
    parser, answer = ToolCallParser(dialect), ParsedAnswer()
    for start in range(0, len(answer_text), size):
        for delta in parser.feed(answer_text[start : start + size]):
            answer.add(delta)
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == [calls[0], calls[1], calls[3]]
    assert (parser.num_calls, parser.has_repeated) == (3, True)
