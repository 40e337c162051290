"""Chat and text completions through OpenAI's client with strict validation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from empu.engine.backends.protocol import Chunk, LogitsNeeded
from empu.text.templates.chat_encoding import encode_chat
from tests.server.running_server import MODEL_NAMES, RunningServer, open_tiny

HELLO: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as openai_client:
        yield openai_client


def test_tokens_of_the_same_text_all_have_their_probability(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="Hello", max_tokens=20, logprobs=5, seed=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert [len(top) for top in logprobs.top_logprobs or []] == [5] * len(logprobs.tokens or [])


def test_models_are_the_names_in_the_store(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == MODEL_NAMES
    assert client.models.retrieve("tiny").created == 5
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")


def test_a_request_without_sampling_has_the_defaults_of_empu_run(client: openai.OpenAI) -> None:
    defaults: Any = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 1024}
    fields: Any = {"model": "tiny", "messages": HELLO, "seed": 3}
    implicit = client.chat.completions.create(**fields)
    explicit = client.chat.completions.create(**fields, **defaults)
    assert implicit.choices == explicit.choices
    response = client.responses.create(model="tiny", input="Hello", max_output_tokens=4)
    assert (response.temperature, response.top_p) == (0.2, 0.9)
    response = client.responses.create(model="tiny", input="Hello", max_output_tokens=4, top_p=0.5)
    assert (response.temperature, response.top_p) == (1.0, 0.5)


def test_a_chat_completion_reports_token_counts(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, seed=1)
    assert answer.usage is not None
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    rendered = "<system\nBe kind.>" + "<user\nHello>" + "<assistant\n"
    assert answer.usage.prompt_tokens == len(rendered)
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == len(rendered) + 12


def test_the_same_seed_gives_the_same_answer_streamed_or_not(client: openai.OpenAI) -> None:
    unstreamed = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=20, seed=7)
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=20, seed=7, stream=True, stream_options={"include_usage": True}
        )
    )
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == unstreamed.choices[0].message.content
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert unstreamed.usage is not None
    assert chunks[-1].usage.completion_tokens == unstreamed.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    other = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=20, seed=8)
    assert other.choices[0].message.content != unstreamed.choices[0].message.content


def test_n_choices_have_consecutive_seeds(client: openai.OpenAI) -> None:
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


def test_a_stop_string_ends_the_answer_before_it(client: openai.OpenAI) -> None:
    unstreamed = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=40, seed=5)
    text = unstreamed.choices[0].message.content
    assert text
    stop = next(letter for letter in text[3:] if letter.isascii() and letter.isprintable())
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=40, seed=5, stop=[stop])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_logprobs_are_those_of_the_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 6
    for token in logprobs.content:
        assert token.logprob <= 0
        assert [top.logprob for top in token.top_logprobs] == sorted(t.logprob for t in token.top_logprobs)[::-1]
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)
    chunks = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3, stream=True
    )
    streamed = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content or []]
    assert [token.token for token in streamed] == [token.token for token in logprobs.content]


def test_logprobs_equal_the_softmax_of_the_backends_logits(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=5, temperature=0, logprobs=True, top_logprobs=4
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    model = open_tiny("tiny")
    ids = encode_chat(model.text, HELLO)
    for token in logprobs.content:
        sequence = model.backend.allocate(len(ids))
        (logits,) = model.backend.forward([Chunk(sequence, np.asarray(ids, dtype=np.int32), LogitsNeeded.LAST)])
        model.backend.release(sequence)
        row = logits[-1].astype(np.float64)
        log_softmax = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        assert token.logprob == pytest.approx(log_softmax.max(), abs=1e-4)
        assert [top.logprob for top in token.top_logprobs] == pytest.approx(np.sort(log_softmax)[::-1][:4], abs=1e-4)
        ids.append(int(log_softmax.argmax()))


def test_an_answer_matches_its_json_schema(client: openai.OpenAI) -> None:
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
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.text_offset is not None
    assert len(logprobs.text_offset) == 8
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
    unstreamed = client.completions.create(model="base", prompt="Once", max_tokens=8, seed=2, echo=True)
    # The client's type knows no chunk without an end, though OpenAI's own chunks have none.
    lenient = openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)
    with lenient:
        chunks = list(
            lenient.completions.create(model="base", prompt="Once", max_tokens=8, seed=2, echo=True, stream=True)
        )
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert "".join(chunk.choices[0].text for chunk in chunks) == unstreamed.choices[0].text


def test_a_label_specialist_answers_with_a_label_and_its_confidence(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "where is it"}]
    answer = client.chat.completions.create(model="labels", messages=messages, logprobs=True, top_logprobs=3)
    choice = answer.choices[0]
    assert choice.message.content in {"card arrival", "card lost", "refund"}
    confidence = choice.to_dict()["confidence"]
    assert isinstance(confidence, float)
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    labels = choice.logprobs.content[0].top_logprobs
    assert {label.token for label in labels} == {"card arrival", "card lost", "refund"}
    assert sum(math.exp(label.logprob) for label in labels) == pytest.approx(1, abs=1e-4)
    assert choice.logprobs.content[0].logprob == pytest.approx(math.log(confidence))
    chunks = list(client.chat.completions.create(model="labels", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert [chunk.choices[0].to_dict().get("confidence") for chunk in chunks][-1] == confidence
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        client.chat.completions.create(model="labels", messages=messages, n=2)


def test_a_label_specialist_below_its_threshold_answers_out_of_scope(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "where is it"}]
    choice = client.chat.completions.create(model="unsure", messages=messages).choices[0]
    assert choice.message.content == "none of these"
    fields: Any = choice.to_dict()
    assert fields["out_of_scope"] is True
    assert fields["closest"] in {"card arrival", "card lost", "refund"}
    assert 0 < fields["confidence"] < 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_json_specialist_always_answers_in_its_schema(client: openai.OpenAI, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    for seed in range(3):
        fields: Any = {"model": "formed", "messages": messages, "max_tokens": 60, "temperature": 1.0, "seed": seed}
        if stream:
            chunks = client.chat.completions.create(**fields, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        else:
            text = client.chat.completions.create(**fields).choices[0].message.content or ""
        assert json.loads(text).keys() == {"a"}
    plain = client.completions.create(model="formed", prompt="Hello", max_tokens=60, temperature=1.0, seed=1)
    assert json.loads(plain.choices[0].text).keys() == {"a"}
    with_stop = client.chat.completions.create(model="formed", messages=messages, max_tokens=60, stop="}")
    assert json.loads(with_stop.choices[0].message.content or "").keys() == {"a"}


def test_a_specialist_without_chat_template_gets_the_prompt_it_was_tuned_on(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    chat = client.chat.completions.create(model="plain", messages=messages, max_tokens=9, seed=1)
    text = client.completions.create(model="plain", prompt="Be brief.\nHello\n=>", max_tokens=9, seed=1)
    assert chat.choices[0].message.content == text.choices[0].text


def test_a_specialist_gets_its_own_instruction(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    with_own = client.chat.completions.create(model="specialist", messages=messages, max_tokens=9, seed=1)
    instruction: Any = [{"role": "system", "content": "Be brief."}, *messages]
    same = client.chat.completions.create(model="tiny", messages=instruction, max_tokens=9, seed=1)
    assert with_own.choices[0].message.content == same.choices[0].message.content


def test_a_prompt_too_long_is_refused_with_both_numbers(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "x" * 300}]
    with pytest.raises(openai.BadRequestError, match="318 tokens and at most 255") as caught:
        client.chat.completions.create(model="tiny", messages=long)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"n": 99}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 50}, "top_logprobs"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"modalities": ["audio"]}, "modalities"),
    ],
)
def test_unsupported_values_are_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=HELLO, extra_body=fields)
    assert caught.value.param is not None
    assert caught.value.param.split(".")[0] == param
    assert param in str(caught.value)


def test_ignored_properties_change_nothing(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=9, seed=1)
    ignored = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=9, seed=1, user="somebody", store=False, metadata={"a": "b"}
    )
    assert plain.choices[0].message.content == ignored.choices[0].message.content


def test_echo_with_logprobs_scores_the_prompt(server: RunningServer) -> None:
    # Not strict: the client's type has no null for the first token, although OpenAI sends one.
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
    model = open_tiny("base")
    ids = [1, *model.text.tokenizer.encode("Once upon")]
    fields: Any = {"model": "base", "echo": True, "logprobs": 2, "temperature": 0}
    answers = [client.completions.create(prompt=ids, max_tokens=n, **fields).choices[0] for n in (0, 1)]
    for answer, num_tokens in zip(answers, (len(ids), len(ids) + 1), strict=True):
        logprobs = answer.logprobs
        assert logprobs is not None
        assert logprobs.token_logprobs is not None
        assert logprobs.top_logprobs is not None
        assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == num_tokens
        assert logprobs.token_logprobs[0] is None
        sequence = model.backend.allocate(len(ids))
        (logits,) = model.backend.forward([Chunk(sequence, np.asarray(ids, dtype=np.int32), LogitsNeeded.ALL)])
        rows = logits.astype(np.float64)
        log_softmax = (
            rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) - rows.max(1)[:, None]
        )
        expected = [log_softmax[i, token] for i, token in enumerate(ids[1:])]
        assert logprobs.token_logprobs[1 : len(ids)] == pytest.approx(expected, abs=1e-4)
        best = [max(top.values()) for top in logprobs.top_logprobs[1 : len(ids)]]
        assert best == pytest.approx(log_softmax[:-1].max(1), abs=1e-4)
    assert answers[0].text == "Once upon"
    assert answers[0].finish_reason == "length"
    assert answers[1].text.startswith("Once upon")
    scored = client.completions.create(prompt="Once upon", max_tokens=0, **fields, n=2)
    assert len(scored.choices) == 2
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        client.completions.create(model="base", prompt="Once", max_tokens=0)
    client.close()
