"""OpenAI's responses through its own client with strict validation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server.running_server import RunningServer
from tests.server.test_tools import SCHEMA, matches_schema

GREEDY: Any = {"model": "wide", "temperature": 0}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as openai_client:
        yield openai_client


def test_a_response_equals_the_chat_answer(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
        max_tokens=12,
        **GREEDY,
    )
    response = client.responses.create(input="Hello", instructions="Be kind.", max_output_tokens=12, **GREEDY)
    assert response.output_text == chat.choices[0].message.content
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert chat.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (chat.usage.prompt_tokens, 12)
    items: Any = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    ]
    from_items = client.responses.create(input=items, max_output_tokens=12, **GREEDY)
    assert from_items.output_text == response.output_text


def test_the_events_of_a_response_come_in_order(client: openai.OpenAI) -> None:
    unstreamed = client.responses.create(input="Hello", max_output_tokens=12, **GREEDY)
    events = list(client.responses.create(input="Hello", max_output_tokens=12, stream=True, **GREEDY))
    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = kinds.count("output_text.delta")
    assert deltas > 1
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * deltas,
        "output_text.done", "content_part.done", "output_item.done", "incomplete",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (
        "".join(event.delta for event in events if event.type == "response.output_text.delta") == unstreamed.output_text
    )
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == unstreamed.output_text


def test_tools_are_called_and_answered(client: openai.OpenAI) -> None:
    fields: Any = {"input": "Rain?", "tools": [WEATHER], "max_output_tokens": 900, **GREEDY}
    response = client.responses.create(tool_choice={"type": "function", "name": "weather"}, **fields)
    assert response.status == "completed"
    assert response.output
    for item in response.output:
        assert item.type == "function_call"
        assert matches_schema(item.arguments)
    with client.responses.stream(tool_choice="required", parallel_tool_calls=False, **fields) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    (call,) = final.output
    assert call.type == "function_call"
    assert matches_schema(call.arguments)
    assert kinds[-3:] == [
        "response.function_call_arguments.done", "response.output_item.done", "response.completed"
    ]  # fmt: skip
    history: Any = [
        {"role": "user", "content": "Rain?"},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "dry"},
    ]
    after = client.responses.create(**{**fields, "input": history, "max_output_tokens": 5})
    assert after.usage is not None
    assert final.usage is not None
    assert after.usage.input_tokens > final.usage.input_tokens


def test_the_text_matches_its_json_schema(client: openai.OpenAI) -> None:
    text: Any = {"format": {"type": "json_schema", "name": "day", "schema": SCHEMA, "strict": True}}
    response = client.responses.create(input="Hello", text=text, max_output_tokens=300, **GREEDY)
    assert response.status == "completed"
    assert matches_schema(response.output_text)
    assert json.loads(response.to_json())["text"]["format"]["schema"] == SCHEMA


def test_a_label_specialist_answers_with_a_label(client: openai.OpenAI) -> None:
    response = client.responses.create(model="labels", input="where is it")
    assert response.output_text in {"card arrival", "card lost", "refund"}
    assert response.to_dict()["confidence"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "[1]"}]}, "input"),
    ],
)
def test_unsupported_values_are_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="tiny", extra_body={"input": "Hi", **fields})
    assert (caught.value.param or "").split(".")[0] == param


def test_a_stored_response_is_continued_retrieved_and_deleted(client: openai.OpenAI) -> None:
    first = client.responses.create(input="Hello", instructions="Be kind.", max_output_tokens=6, **GREEDY)
    assert first.store is True
    assert client.responses.retrieve(first.id).output_text == first.output_text
    fields: Any = {"max_output_tokens": 6, "instructions": "Be brief.", **GREEDY}
    second = client.responses.create(input="And?", previous_response_id=first.id, **fields)
    history: Any = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": first.output_text}]
    question: Any = {"role": "user", "content": "And?"}
    spelled_out = client.responses.create(input=[*history, question], store=False, **fields)
    assert second.output_text == spelled_out.output_text
    assert second.previous_response_id == first.id
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    referenced = client.responses.create(input=[history[0], reference, question], **fields)
    assert referenced.output_text == spelled_out.output_text
    *_, last = client.responses.create(input="Hello", max_output_tokens=6, stream=True, **GREEDY)
    assert last.type == "response.incomplete"
    assert client.responses.retrieve(last.response.id).output_text == last.response.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(spelled_out.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError, match="no stored response"):
        client.responses.create(input="And?", previous_response_id=first.id, **fields)


def test_stored_responses_belong_to_their_key(client: openai.OpenAI, server: RunningServer) -> None:
    response = client.responses.create(input="Hello", max_output_tokens=6, **GREEDY)
    other = openai.OpenAI(base_url=client.base_url, api_key=server.state.keys.add("stranger"), max_retries=0)
    with other:
        for ask in (other.responses.retrieve, other.responses.delete):
            with pytest.raises(openai.NotFoundError):
                ask(response.id)
        reference: Any = [{"type": "item_reference", "id": response.output[0].id}]
        with pytest.raises(openai.BadRequestError):
            other.responses.create(input=reference, max_output_tokens=6, **GREEDY)
