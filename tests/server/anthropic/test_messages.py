"""Messages through Anthropic's client with strict validation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.server.running_server import MODEL_NAMES, RunningServer

GREEDY = {"temperature": 0}
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=server.url, api_key=server.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as anthropic_client:
        yield anthropic_client


def text_of(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert block.type == "text"
    return block.text


def test_models_are_listed_in_anthropics_format(client: anthropic.Anthropic) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert list(listed) == MODEL_NAMES
    assert listed["tiny"].created_at.timestamp() == 5
    assert client.models.retrieve("tiny").display_name == "tiny"


def test_a_message_reports_token_counts(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="tiny", max_tokens=11, messages=HELLO, system="Be kind.", extra_body=GREEDY)
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 11
    counted = client.messages.count_tokens(model="tiny", messages=HELLO, system="Be kind.")
    assert counted.input_tokens == len("<system\nBe kind.><user\nHello><assistant\n")
    prompt_tokens = message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    assert prompt_tokens == counted.input_tokens
    blocks: Any = [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]
    from_blocks = client.messages.create(model="tiny", max_tokens=11, messages=HELLO, system=blocks, extra_body=GREEDY)
    assert text_of(from_blocks) == text_of(message)


def test_the_events_of_a_stream_come_in_order(client: anthropic.Anthropic) -> None:
    unstreamed = client.messages.create(model="tiny", max_tokens=20, messages=HELLO, extra_body=GREEDY)
    events = list(client.messages.create(model="tiny", max_tokens=20, messages=HELLO, extra_body=GREEDY, stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("content_block_delta")
    assert deltas > 1
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    with client.messages.stream(model="tiny", max_tokens=20, messages=HELLO, extra_body=GREEDY) as stream:
        final = stream.get_final_message()
    assert text_of(final) == text_of(unstreamed)
    assert final.stop_reason == "max_tokens"
    assert final.usage.output_tokens == 20


def test_the_matched_stop_sequence_is_returned(client: anthropic.Anthropic) -> None:
    text = text_of(client.messages.create(model="tiny", max_tokens=40, messages=HELLO, extra_body=GREEDY))
    stop = next(letter for letter in text[3:] if letter.isascii() and letter.isprintable())
    message = client.messages.create(
        model="tiny", max_tokens=40, messages=HELLO, extra_body=GREEDY, stop_sequences=["never this", stop]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert text_of(message) == text[: text.index(stop)]


def test_a_label_specialist_answers_with_a_label(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="labels", max_tokens=9, messages=HELLO)
    assert text_of(message) in {"card arrival", "card lost", "refund"}
    assert message.stop_reason == "end_turn"
    confidence = message.to_dict()["confidence"]
    assert isinstance(confidence, float)
    assert 0 < confidence <= 1
    counted = client.messages.count_tokens(model="labels", messages=HELLO)
    assert message.usage.input_tokens == counted.input_tokens


def test_errors_have_anthropics_format(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nobody", max_tokens=9, messages=HELLO)
    assert isinstance(missing.value.body, dict)
    assert missing.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="at most 255"):
        client.messages.create(model="tiny", max_tokens=9, messages=[{"role": "user", "content": "x" * 400}])
    with pytest.raises(anthropic.BadRequestError, match="container is not supported"):
        client.messages.create(model="tiny", max_tokens=9, messages=HELLO, extra_body={"container": "c"})
    unauthorised = anthropic.Anthropic(base_url=client.base_url, api_key="wrong", max_retries=0)
    with unauthorised, pytest.raises(anthropic.AuthenticationError):
        unauthorised.messages.create(model="tiny", max_tokens=9, messages=HELLO)


def test_an_answer_matches_its_json_schema(client: anthropic.Anthropic) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"kind": {"enum": ["refund", "card"]}},
        "required": ["kind"],
        "additionalProperties": False,
    }
    answer_format: Any = {"type": "json_schema", "schema": schema}
    for body in ({"output_config": {"format": answer_format}}, {"output_format": answer_format}):
        message = client.messages.create(model="tiny", max_tokens=60, messages=HELLO, extra_body=body)
        assert message.stop_reason == "end_turn"
        assert json.loads(text_of(message))["kind"] in {"refund", "card"}
    unsupported: Any = {"output_config": {"format": {"type": "json_schema", "schema": {"type": "nonsense"}}}}
    with pytest.raises(anthropic.BadRequestError, match="output_config"):
        client.messages.create(model="tiny", max_tokens=9, messages=HELLO, extra_body=unsupported)
