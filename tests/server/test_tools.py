"""Tools through both official clients: definitions, constrained calls, streams, results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.server.raw_http import request
from tests.server.running_server import RunningServer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Bandung", "Jakarta"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "Says it.", "parameters": SCHEMA}}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
MESSAGES: Any = [{"role": "user", "content": "Rain?"}]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as official_client:
        yield official_client


@pytest.fixture(scope="module")
def claude(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=server.url, api_key=server.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as official_client:
        yield official_client


def matches_schema(arguments: str) -> bool:
    value = json.loads(arguments)
    return set(value) == {"city", "days"} and value["city"] in {"Bandung", "Jakarta"} and value["days"] in range(1, 10)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_required_call_matches_its_schema(client: openai.OpenAI, choice: Any) -> None:
    for seed in range(3):
        answer = client.chat.completions.create(
            model="wide", messages=MESSAGES, tools=[WEATHER], tool_choice=choice, max_tokens=900, seed=seed
        )
        calls = answer.choices[0].message.tool_calls
        assert calls
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.content is None
        for call in calls:
            assert call.type == "function"
            assert call.function.name == "weather"
            assert matches_schema(call.function.arguments)


def test_streamed_calls_equal_unstreamed_ones_and_may_be_several(client: openai.OpenAI) -> None:
    fields: Any = {
        "model": "wide",
        "messages": MESSAGES,
        "tools": [WEATHER, CLOCK],
        "tool_choice": "required",
        "seed": 3,
    }
    unstreamed = client.chat.completions.create(max_tokens=900, **fields).choices[0].message.tool_calls
    streamed: list[dict[str, str]] = []
    num_deltas = 0
    for chunk in client.chat.completions.create(max_tokens=900, stream=True, **fields):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            if delta.id:
                assert delta.index == len(streamed)
                streamed.append({"name": delta.function.name or "", "arguments": ""})
            streamed[delta.index]["arguments"] += delta.function.arguments or ""
            num_deltas += 1
        last = chunk.choices[0].finish_reason
    assert last == "tool_calls"
    assert unstreamed
    assert streamed == [
        {"name": c.function.name, "arguments": c.function.arguments} for c in unstreamed if c.type == "function"
    ]
    assert num_deltas > len(streamed)
    single = client.chat.completions.create(max_tokens=900, parallel_tool_calls=False, **fields).choices[0].message
    assert single.tool_calls
    assert len(single.tool_calls) == 1


def test_an_optional_tool_is_in_the_prompt_and_allows_text(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="wide", messages=MESSAGES, max_tokens=9, seed=1)
    offered = client.chat.completions.create(model="wide", messages=MESSAGES, max_tokens=9, seed=1, tools=[WEATHER])
    none = client.chat.completions.create(
        model="wide", messages=MESSAGES, max_tokens=9, seed=1, tools=[WEATHER], tool_choice="none"
    )
    assert offered.choices[0].message.tool_calls is None
    assert offered.choices[0].message.content
    assert offered.usage is not None
    assert none.usage is not None
    assert plain.usage is not None
    assert offered.usage.prompt_tokens > plain.usage.prompt_tokens + len(json.dumps(SCHEMA))
    assert none.usage.prompt_tokens == plain.usage.prompt_tokens
    assert none.choices[0].message.content == plain.choices[0].message.content


def test_tool_results_are_messages(client: openai.OpenAI) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns: Any = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    answer = client.chat.completions.create(model="tiny", messages=turns, max_tokens=5)
    formatted = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    rendered = f"<user\nRain?><assistant\n{formatted}><user\n<tool_response>\nnoon\n</tool_response>><assistant\n"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(rendered)
    without_id: Any = {**turns[2], "tool_call_id": None}
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="tiny", messages=[*turns[:2], without_id], max_tokens=5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": 3}}}]}, "tools"),
        ({"model": "labels"}, "tools"),
    ],
)
def test_unsupported_combinations_with_tools_are_refused_by_name(
    client: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            **{"model": "wide", "messages": MESSAGES, "tools": [WEATHER], "max_tokens": 5, **fields}
        )
    assert (caught.value.param or "").split(".")[0] == param


@pytest.mark.parametrize(
    ("path", "fields", "stop_param"),
    [
        ("/v1/messages", {"tools": [{"name": "weather", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}},
         "stop_sequences"),
        ("/v1/messages", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "stop_sequences"),
        ("/v1/chat/completions", {"tools": [WEATHER], "tool_choice": "required"}, "stop"),
        ("/v1/chat/completions", {"response_format": {"type": "json_object", "schema": SCHEMA}}, "stop"),
    ],
)  # fmt: skip
def test_stop_strings_beside_a_grammar_are_ignored(
    server: RunningServer, path: str, fields: dict[str, Any], stop_param: str
) -> None:
    body = {
        "model": "wide",
        "max_tokens": 900,
        "messages": MESSAGES,
        "temperature": 0,
        stop_param: ["a", "}"],
        **fields,
    }
    reply = request(server.port, "POST", path, key=server.key, body=json.dumps(body).encode())
    assert reply.status == 200, reply
    assert reply.headers["x-empu-ignored"] == stop_param
    assert b"Bandung" in reply.body or b"Jakarta" in reply.body


def test_anthropic_tools_are_called_and_get_results(claude: anthropic.Anthropic) -> None:
    tool: Any = {"name": "weather", "description": "Says it.", "input_schema": SCHEMA}
    fields: Any = {
        "model": "wide",
        "max_tokens": 900,
        "messages": MESSAGES,
        "tools": [tool],
        "extra_body": {"temperature": 0},
    }
    message = claude.messages.create(tool_choice={"type": "any"}, **fields)
    assert message.stop_reason == "tool_use"
    for block in message.content:
        assert block.type == "tool_use"
        assert matches_schema(json.dumps(block.input))
    named: Any = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    with claude.messages.stream(tool_choice=named, **fields) as stream:
        event_types = [event.type for event in stream if event.type.startswith(("message_", "content_"))]
        final = stream.get_final_message()
    assert event_types[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert event_types[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    (tool_use,) = final.content
    assert tool_use.type == "tool_use"
    assert matches_schema(json.dumps(tool_use.input))
    with_tools = claude.messages.count_tokens(model="wide", messages=MESSAGES, tools=[tool])
    assert with_tools.input_tokens > claude.messages.count_tokens(model="wide", messages=MESSAGES).input_tokens
    turns: Any = [
        *MESSAGES,
        {"role": "assistant", "content": [block.to_dict() for block in final.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": tool_use.id, "content": "dry"}]},
    ]
    after = claude.messages.create(**{**fields, "messages": turns, "max_tokens": 5})
    assert after.content[0].type == "text"
    with pytest.raises(anthropic.BadRequestError, match="tool_result"):
        claude.messages.create(**{**fields, "messages": [*MESSAGES, {**turns[2], "role": "assistant"}, *MESSAGES]})
