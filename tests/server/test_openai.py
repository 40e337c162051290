"""OpenAI's own client, which validates every response, against the real server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from empu.engine.backends.protocol import Chunk, Want
from empu.text.templates.chat_encoding import encode_chat
from tests.server.serving import LISTED, Running, tiny

HELLO: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{running.url}/v1", api_key=running.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as made:
        yield made


def test_tokens_of_the_same_text_all_have_their_probability(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="Hello", max_tokens=20, logprobs=5, seed=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert [len(top) for top in logprobs.top_logprobs or []] == [5] * len(logprobs.tokens or [])


def test_models_are_the_names_in_the_store(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == LISTED
    assert client.models.retrieve("tiny").created == 5
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")


def test_a_request_that_does_not_say_how_is_answered_as_by_the_command(client: openai.OpenAI) -> None:
    said: Any = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 1024}
    ways: list[Any] = [{}, said]
    plain, spelled = (client.chat.completions.create(model="tiny", messages=HELLO, seed=3, **way) for way in ways)
    assert plain.choices == spelled.choices
    response = client.responses.create(model="tiny", input="Hello", max_output_tokens=4)
    assert (response.temperature, response.top_p) == (0.2, 0.9)
    response = client.responses.create(model="tiny", input="Hello", max_output_tokens=4, top_p=0.5)
    assert (response.temperature, response.top_p) == (1.0, 0.5)


def test_a_chat_answers_with_true_counts(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, seed=1)
    assert answer.usage is not None
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    rendered = "<system\nBe kind.>" + "<user\nHello>" + "<assistant\n"
    assert answer.usage.prompt_tokens == len(rendered)
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == len(rendered) + 12


def test_the_same_seed_gives_the_same_answer_streamed_or_not(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=20, seed=7)
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=20, seed=7, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    other = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=20, seed=8)
    assert other.choices[0].message.content != whole.choices[0].message.content


def test_several_answers_to_one_prompt(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=9, seed=3, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    alone = [
        client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=9, seed=3 + i).choices[0]
        for i in range(3)
    ]
    assert [choice.message.content for choice in answer.choices] == [choice.message.content for choice in alone]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 27
    chunks = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=9, seed=3, n=3, stream=True)
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


def test_stop_strings_end_the_answer_before_them(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=40, seed=5)
    text = whole.choices[0].message.content
    assert text
    stop = next(letter for letter in text[3:] if letter.isascii() and letter.isprintable())
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=40, seed=5, stop=[stop])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_logprobs_are_those_of_the_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    described = answer.choices[0].logprobs
    assert described is not None
    assert described.content is not None
    assert len(described.content) == 6
    for token in described.content:
        assert token.logprob <= 0
        assert [one.logprob for one in token.top_logprobs] == sorted(t.logprob for t in token.top_logprobs)[::-1]
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)
    chunks = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3, stream=True
    )
    streamed = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content or []]
    assert [token.token for token in streamed] == [token.token for token in described.content]


def test_logprobs_equal_the_backends_own_softmax(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=5, temperature=0, logprobs=True, top_logprobs=4
    )
    described = answer.choices[0].logprobs
    assert described is not None
    assert described.content is not None
    model = tiny("tiny")
    ids = encode_chat(model.text, HELLO)
    for token in described.content:
        sequence = model.backend.allocate(len(ids))
        (logits,) = model.backend.forward([Chunk(sequence, np.asarray(ids, dtype=np.int32), Want.LAST)])
        model.backend.release(sequence)
        row = logits[-1].astype(np.float64)
        own = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        assert token.logprob == pytest.approx(own.max(), abs=1e-4)
        assert [one.logprob for one in token.top_logprobs] == pytest.approx(np.sort(own)[::-1][:4], abs=1e-4)
        ids.append(int(own.argmax()))


def test_an_answer_keeps_a_json_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["refund", "card"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["kind", "count"],
        "additionalProperties": False,
    }
    for seed in range(3):
        answer = client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=100,
            seed=seed,
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        )
        assert answer.choices[0].finish_reason == "stop"
        value = json.loads(answer.choices[0].message.content or "")
        assert value["kind"] in {"refund", "card"}
        assert value["count"] in range(10)
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}},
        )


def test_text_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="base", prompt="Once", max_tokens=8, seed=2, logprobs=2)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 8)
    described = answer.choices[0].logprobs
    assert described is not None
    assert described.text_offset is not None
    assert len(described.text_offset) == 8
    echoed = client.completions.create(model="base", prompt="Once", max_tokens=8, seed=2, echo=True)
    assert echoed.choices[0].text == "Once" + answer.choices[0].text
    ids = client.completions.create(model="base", prompt=[1, *(3 + byte for byte in b"Once")], max_tokens=8, seed=2)
    assert ids.choices[0].text == answer.choices[0].text
    several = client.completions.create(model="base", prompt=["Once", "Twice"], max_tokens=8, seed=2, n=2)
    assert several.choices[0].text == answer.choices[0].text
    assert several.usage is not None
    assert several.usage.prompt_tokens == 5 + 6
    with pytest.raises(openai.BadRequestError, match="token id 999"):
        client.completions.create(model="base", prompt=[5, 999])


def test_streamed_text_completions(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="base", prompt="Once", max_tokens=8, seed=2, echo=True)
    # The client's type knows no chunk without an end, though OpenAI's own chunks have none.
    lenient = openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)
    with lenient:
        chunks = list(
            lenient.completions.create(model="base", prompt="Once", max_tokens=8, seed=2, echo=True, stream=True)
        )
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_a_specialist_for_labels_names_one_and_how_sure_it_is(client: openai.OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "where is it"}]
    answer = client.chat.completions.create(model="labels", messages=ask, logprobs=True, top_logprobs=3)
    choice = answer.choices[0]
    assert choice.message.content in {"card arrival", "card lost", "refund"}
    confidence = choice.to_dict()["confidence"]
    assert isinstance(confidence, float)
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    named = choice.logprobs.content[0].top_logprobs
    assert {one.token for one in named} == {"card arrival", "card lost", "refund"}
    assert sum(math.exp(one.logprob) for one in named) == pytest.approx(1, abs=1e-4)
    assert choice.logprobs.content[0].logprob == pytest.approx(math.log(confidence))
    chunks = list(client.chat.completions.create(model="labels", messages=ask, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert [chunk.choices[0].to_dict().get("confidence") for chunk in chunks][-1] == confidence
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        client.chat.completions.create(model="labels", messages=ask, n=2)


def test_a_specialist_that_is_unsure_says_so(client: openai.OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "where is it"}]
    choice = client.chat.completions.create(model="unsure", messages=ask).choices[0]
    assert choice.message.content == "none of these"
    said: Any = choice.to_dict()
    assert said["out_of_scope"] is True
    assert said["closest"] in {"card arrival", "card lost", "refund"}
    assert 0 < said["confidence"] < 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_specialist_for_json_keeps_its_form_whoever_asks(client: openai.OpenAI, stream: bool) -> None:
    ask: Any = [{"role": "user", "content": "Hello"}]
    for seed in range(3):
        asked: Any = {"model": "formed", "messages": ask, "max_tokens": 60, "temperature": 1.0, "seed": seed}
        if stream:
            chunks = client.chat.completions.create(**asked, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        else:
            text = client.chat.completions.create(**asked).choices[0].message.content or ""
        assert json.loads(text).keys() == {"a"}
    plain = client.completions.create(model="formed", prompt="Hello", max_tokens=60, temperature=1.0, seed=1)
    assert json.loads(plain.choices[0].text).keys() == {"a"}
    with pytest.raises(openai.BadRequestError, match="was tuned to"):
        client.chat.completions.create(model="formed", messages=ask, stop="}")
    with pytest.raises(openai.BadRequestError, match="was tuned to"):
        client.completions.create(model="formed", prompt="Hello", stop="}")


def test_a_specialist_of_a_base_that_only_continues_text_is_asked_as_it_was_tuned(client: openai.OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "Hello"}]
    chat = client.chat.completions.create(model="plain", messages=ask, max_tokens=9, seed=1)
    text = client.completions.create(model="plain", prompt="Be brief.\nHello\n=>", max_tokens=9, seed=1)
    assert chat.choices[0].message.content == text.choices[0].text


def test_a_specialist_is_asked_as_it_was_tuned(client: openai.OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "Hello"}]
    with_own = client.chat.completions.create(model="specialist", messages=ask, max_tokens=9, seed=1)
    instruction: Any = [{"role": "system", "content": "Be brief."}, *ask]
    same = client.chat.completions.create(model="tiny", messages=instruction, max_tokens=9, seed=1)
    assert with_own.choices[0].message.content == same.choices[0].message.content


def test_a_prompt_too_long_is_refused_with_both_numbers(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "x" * 300}]
    with pytest.raises(openai.BadRequestError, match="318 tokens and at most 255") as caught:
        client.chat.completions.create(model="tiny", messages=long)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"temperature": 3}, "temperature"),
        ({"n": 99}, "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 50}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"invented": 1}, "invented"),
        ({"modalities": ["audio"]}, "modalities"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(client: openai.OpenAI, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=HELLO, extra_body=given)
    assert caught.value.param is not None
    assert caught.value.param.split(".")[0] == param
    assert param in str(caught.value)


def test_what_is_ignored_changes_nothing(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=9, seed=1)
    more = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=9, seed=1, user="somebody", store=False, metadata={"a": "b"}
    )
    assert plain.choices[0].message.content == more.choices[0].message.content
