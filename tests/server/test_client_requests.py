"""Requests of real clients: what changes no answer is ignored and reported, not refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from empu.text.templates.chat_encoding import encode_chat
from tests.server.raw_http import Reply, request
from tests.server.running_server import RunningServer, open_tiny

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
CLOCK = {"name": "clock", "description": "Gives the time.", "parameters": {"type": "object", "properties": {}}}
OPEN_SCHEMA = {"type": "object", "properties": {"day": {"enum": ["Monday"]}}, "required": ["day"]}
DEFAULTS: dict[str, dict[str, Any]] = {
    CHAT: {"model": "tiny", "messages": HELLO, "max_tokens": 6, "temperature": 0},
    TEXT: {"model": "base", "prompt": "Once", "max_tokens": 6, "temperature": 0},
    RESPONSES: {"model": "tiny", "input": "Hello", "max_output_tokens": 6, "temperature": 0},
    MESSAGES: {"model": "tiny", "messages": HELLO, "max_tokens": 6, "temperature": 0},
}


def post(server: RunningServer, path: str, **fields: Any) -> Reply:
    body = {**DEFAULTS.get(path, {}), **fields}
    return request(server.port, "POST", path, key=server.key, body=json.dumps(body).encode())


def answer_of(path: str, reply: Reply) -> str:
    """Return the text of an answer, without what differs between two equal requests."""
    assert reply.status == 200, reply
    content = {
        CHAT: lambda body: body["choices"][0]["message"]["content"],
        TEXT: lambda body: body["choices"][0]["text"],
        RESPONSES: lambda body: body["output"][0]["content"][0]["text"],
        MESSAGES: lambda body: body["content"][0]["text"],
    }[path](reply.json)
    assert isinstance(content, str)
    return content


IGNORED: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"invented": 1}, "invented"),
    (CHAT, {"reasoning_effort": "low", "verbosity": "low"}, "reasoning_effort, verbosity"),
    (CHAT, {"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
    (CHAT, {"num_ctx": 4096, "keep_alive": "5m"}, "num_ctx, keep_alive"),
    (CHAT, {"messages": [{"role": "user", "content": "Hello", "id": "1", "opts": {"a": 1}}]},
     "messages.*.id, messages.*.opts"),
    (CHAT, {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]}]},
     "messages.*.content.*.cache_control"),
    (CHAT, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.custom"),
    (CHAT, {"user": "somebody", "store": True, "metadata": {"a": "b"}}, "user, store, metadata"),
    (TEXT, {"invented": 1}, "invented"),
    (RESPONSES, {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"}},
     "include, reasoning"),
    (RESPONSES, {"tools": [{"type": "web_search"}]}, "tools.web_search"),
    (RESPONSES, {"text": {"verbosity": "low"}}, "text.verbosity"),
    (RESPONSES, {"input": [{"type": "reasoning", "id": "r", "summary": []}, *HELLO]}, "input.reasoning"),
    (MESSAGES, {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management"),
    (MESSAGES, {"thinking": {"type": "adaptive"}}, "thinking"),
    (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking"),
    (MESSAGES, {"output_config": {"effort": "medium"}}, "output_config.effort"),
    (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.web_search_20250305"),
    (MESSAGES, {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]}]},
     "messages.*.content.*.cache_control"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "fields", "ignored"), IGNORED)
def test_what_changes_no_answer_is_ignored_and_reported(
    server: RunningServer, path: str, fields: dict[str, Any], ignored: str
) -> None:
    reply = post(server, path, **fields)
    assert answer_of(path, reply) == answer_of(path, post(server, path))
    assert reply.headers["x-empu-ignored"] == ignored
    assert "x-empu-ignored" not in post(server, path).headers


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}),
        (CHAT, {"stop": ""}),
        (CHAT, {"stop": ["", ""]}),
        (CHAT, {"top_k": 0}),
        (CHAT, {"top_k": -1}),
        (CHAT, {"top_p": 0}),
        (CHAT, {"top_logprobs": 0}),
        (CHAT, {"stream_options": {"include_usage": True}}),
        (CHAT, {"tools": [], "functions": []}),
        (CHAT, {"logit_bias": {}, "audio": None}),
        (MESSAGES, {"stop_sequences": [""]}),
        (MESSAGES, {"top_k": 0}),
        (RESPONSES, {"truncation": "auto"}),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]}),
    ],
)
def test_values_without_effect_are_accepted(server: RunningServer, path: str, fields: dict[str, Any]) -> None:
    assert answer_of(path, post(server, path, **fields)) == answer_of(path, post(server, path))


def test_ignored_properties_are_in_the_log_by_name_only(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="empu.server"):
        reply = post(server, CHAT, invented="secret value", **{"a\nb": 1, "x" * 300: 1})
        assert reply.headers["x-empu-ignored"] == f"invented, a?b, {'x' * 64}"
        post(server, CHAT, **{f"p{i}": 1 for i in range(100)})
    lines = [json.loads(record.message) for record in caplog.records if record.name == "empu.server.requests"]
    assert lines[0]["ignored"] == ["invented", "a?b", "x" * 64]
    assert "secret" not in caplog.text
    assert all(len(line.get("ignored", [])) <= 20 for line in lines)


def test_max_tokens_of_minus_one_means_the_context(server: RunningServer) -> None:
    usage = post(server, CHAT, max_tokens=-1).json["usage"]
    assert usage["completion_tokens"] > 200 or usage["total_tokens"] <= 256


def test_repeat_penalty_is_repetition_penalty(server: RunningServer) -> None:
    replies = [post(server, CHAT, max_tokens=30, **{name: 5.0}) for name in ("repeat_penalty", "repetition_penalty")]
    first, second = (answer_of(CHAT, reply) for reply in replies)
    assert first == second != answer_of(CHAT, post(server, CHAT, max_tokens=30))


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_logit_bias_bans_and_forces_tokens(server: RunningServer, path: str) -> None:
    token = open_tiny("tiny").text.tokenizer.encode("Z")[0]
    assert answer_of(path, post(server, path, logit_bias={str(token): 100})) == "ZZZZZZ"
    unbiased = post(server, path, temperature=1, seed=1, max_tokens=60)
    present = next(character for character in answer_of(path, unbiased) if character.isascii())
    banned = open_tiny("tiny").text.tokenizer.encode(present)[0]
    fields = {"temperature": 1, "seed": 1, "max_tokens": 60, "logit_bias": {str(banned): -100}}
    assert present not in answer_of(path, post(server, path, **fields))


@pytest.mark.parametrize(
    "history",
    [
        {"role": "assistant", "content": "Noon.", "tool_calls": []},
        {"role": "assistant", "content": "Noon.", "reasoning_content": "It is day."},
        {"role": "assistant", "content": "Noon.", "reasoning": "It is day.", "refusal": None, "audio": None},
        {"role": "assistant", "content": [{"type": "text", "text": "Noon."}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Noon."}]},
    ],
)
def test_an_answer_in_the_history_may_have_more_than_its_text(server: RunningServer, history: dict[str, Any]) -> None:
    plain = post(server, CHAT, messages=[*HELLO, {"role": "assistant", "content": "Noon."}, *HELLO])
    assert answer_of(CHAT, post(server, CHAT, messages=[*HELLO, history, *HELLO])) == answer_of(CHAT, plain)


@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
def test_thinking_blocks_in_the_history_are_ignored(server: RunningServer, path: str) -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    text = {"type": "text", "text": "Noon."}
    fields = {} if path == MESSAGES else {"model": "tiny"}
    replies = [
        post(server, path, messages=[*HELLO, {"role": "assistant", "content": blocks}, *HELLO], **fields)
        for blocks in ([thinking, text], [text])
    ]
    assert [reply.status for reply in replies] == [200, 200]
    key = "content" if path == MESSAGES else "input_tokens"
    assert replies[0].json[key] == replies[1].json[key]
    assert replies[0].headers["x-empu-ignored"] == "messages.*.content.thinking"


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": OPEN_SCHEMA}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": OPEN_SCHEMA}}},
        {"response_format": {"type": "json_object", "schema": OPEN_SCHEMA}},
        {"guided_json": OPEN_SCHEMA},
    ],
)
def test_an_object_has_only_the_properties_that_its_schema_lists(server: RunningServer, fields: dict[str, Any]) -> None:
    for seed in range(5):
        reply = post(server, CHAT, max_tokens=200, temperature=1, seed=seed, **fields)
        assert json.loads(answer_of(CHAT, reply)) == {"day": "Monday"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "clock"}}])
def test_a_tool_without_arguments_is_called_once_and_without_any(server: RunningServer, choice: Any) -> None:
    tools = [{"type": "function", "function": CLOCK}]
    fields = {"model": "wide", "tools": tools, "tool_choice": choice, "max_tokens": 600, "temperature": 1}
    for seed in range(5):
        message = post(server, CHAT, **fields, seed=seed).json["choices"][0]
        assert [call["function"]["arguments"] for call in message["message"]["tool_calls"]] == ["{}"]
        assert message["finish_reason"] == "tool_calls"


def test_a_named_tool_is_called_once(server: RunningServer) -> None:
    parameters = {"type": "object", "properties": {"zone": {"type": "integer", "minimum": 0, "maximum": 9}}}
    tools = [{"type": "function", "function": {**CLOCK, "parameters": {**parameters, "required": ["zone"]}}}]
    choice = {"type": "function", "function": {"name": "clock"}}
    for seed in range(5):
        reply = post(
            server, CHAT, model="wide", tools=tools, tool_choice=choice, max_tokens=600, temperature=1, seed=seed
        )
        assert len(reply.json["choices"][0]["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_functions_are_tools_in_their_former_form(server: RunningServer, stream: bool) -> None:
    fields = {"model": "wide", "functions": [CLOCK], "function_call": {"name": "clock"}, "max_tokens": 300}
    reply = post(server, CHAT, stream=stream, **fields)
    assert reply.status == 200, reply
    if stream:
        assert b'"function_call":{"name":"clock","arguments":""}' in reply.body
        assert b'"finish_reason":"function_call"' in reply.body
        return
    choice = reply.json["choices"][0]
    assert choice["message"]["function_call"] == {"name": "clock", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"
    history = [*HELLO, choice["message"], {"role": "function", "name": "clock", "content": "noon"}]
    assert post(server, CHAT, model="wide", messages=history).status == 200


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_the_beginning_of_an_answer_is_continued(server: RunningServer, path: str) -> None:
    model = open_tiny("tiny")
    prompt_ids = [*encode_chat(model.text, HELLO), *model.text.tokenizer.encode("Noon")]
    expected = answer_of(TEXT, post(server, TEXT, model="tiny", prompt=prompt_ids))
    messages = [*HELLO, {"role": "assistant", "content": "Noon"}]
    messages_property = "input" if path == RESPONSES else "messages"
    assert answer_of(path, post(server, path, **{messages_property: messages})) == expected
    formats: dict[str, dict[str, Any]] = {
        CHAT: {"response_format": {"type": "json_object"}},
        RESPONSES: {"text": {"format": {"type": "json_object"}}},
        MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": OPEN_SCHEMA}}},
    }
    assert post(server, path, **{messages_property: messages}, **formats[path]).status == 400


def test_the_beginning_of_an_answer_is_counted(server: RunningServer) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Noon"}]
    counts = [
        post(server, f"{MESSAGES}/count_tokens", model="tiny", messages=given).json["input_tokens"]
        for given in (HELLO, messages)
    ]
    assert counts[1] == counts[0] + len("Noon")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"web_search_options": {"search_context_size": "low"}}),
        (TEXT, {"suffix": "the end"}),
        (RESPONSES, {"previous_response_id": "resp_1"}),
        (MESSAGES, {"mcp_servers": [{"type": "url", "url": "http://x", "name": "x"}]}),
        (CHAT, {"tool_choice": "required", "tools": [{"type": "custom", "custom": {"name": "f"}}]}),
    ],
)
def test_what_would_make_the_answer_wrong_is_refused(server: RunningServer, path: str, fields: dict[str, Any]) -> None:
    reply = post(server, path, **fields)
    assert reply.status == 400
    assert next(iter(fields)) in reply.json["error"]["message"]
