"""Tools through both official clients: offered, called under constraint, streamed, answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import numpy as np
import openai
import pytest

from empu.engine.generation import AnswerState
from empu.engine.sampling import SamplingParams
from empu.server.openai.tool_protocol import Offer
from empu.serving.grammars import Guides
from empu.serving.tools.dialects import TAGGED, Choice, Form, Tool, dialogue, form_of
from empu.serving.tools.parser import Arguments, CallBegins, Read, Text, ToolReader, read_whole
from empu.text.templates.jinja import JinjaTemplate
from tests.server.raw import request
from tests.server.serving import Running, tiny
from tests.text.chat_families import CHATML, LLAMA31

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Bandung", "Jakarta"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "Says it.", "parameters": SCHEMA}}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
ASK: Any = [{"role": "user", "content": "Rain?"}]
OBJECT = Form(True, "", "", "", "parameters")
ARRAY = Form(True, "[", ", ", "]")


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{running.url}/v1", api_key=running.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as made:
        yield made


@pytest.fixture(scope="module")
def claude(running: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=running.url, api_key=running.key, max_retries=0, timeout=120, _strict_response_validation=True
    ) as made:
        yield made


def keeps_schema(arguments: str) -> bool:
    value = json.loads(arguments)
    return set(value) == {"city", "days"} and value["city"] in {"Bandung", "Jakarta"} and value["days"] in range(1, 10)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_demanded_call_always_keeps_its_schema(client: openai.OpenAI, choice: Any) -> None:
    for seed in range(3):
        answer = client.chat.completions.create(
            model="wide", messages=ASK, tools=[WEATHER], tool_choice=choice, max_tokens=900, seed=seed
        )
        made = answer.choices[0].message.tool_calls
        assert made
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.content is None
        for call in made:
            assert call.type == "function"
            assert call.function.name == "weather"
            assert keeps_schema(call.function.arguments)


def test_streamed_calls_equal_whole_ones_and_can_be_several(client: openai.OpenAI) -> None:
    ask: Any = {"model": "wide", "messages": ASK, "tools": [WEATHER, CLOCK], "tool_choice": "required", "seed": 3}
    whole = client.chat.completions.create(max_tokens=900, **ask).choices[0].message.tool_calls
    found: list[dict[str, str]] = []
    pieces = 0
    for chunk in client.chat.completions.create(max_tokens=900, stream=True, **ask):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            if delta.id:
                assert delta.index == len(found)
                found.append({"name": delta.function.name or "", "arguments": ""})
            found[delta.index]["arguments"] += delta.function.arguments or ""
            pieces += 1
        last = chunk.choices[0].finish_reason
    assert last == "tool_calls"
    assert whole
    assert found == [
        {"name": c.function.name, "arguments": c.function.arguments} for c in whole if c.type == "function"
    ]
    assert pieces > len(found)
    one = client.chat.completions.create(max_tokens=900, parallel_tool_calls=False, **ask).choices[0].message
    assert one.tool_calls
    assert len(one.tool_calls) == 1


def test_without_demand_an_answer_is_text_and_tools_are_in_the_prompt(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="wide", messages=ASK, max_tokens=9, seed=1)
    offered = client.chat.completions.create(model="wide", messages=ASK, max_tokens=9, seed=1, tools=[WEATHER])
    none = client.chat.completions.create(
        model="wide", messages=ASK, max_tokens=9, seed=1, tools=[WEATHER], tool_choice="none"
    )
    assert offered.choices[0].message.tool_calls is None
    assert offered.choices[0].message.content
    assert offered.usage is not None
    assert none.usage is not None
    assert plain.usage is not None
    assert offered.usage.prompt_tokens > plain.usage.prompt_tokens + len(json.dumps(SCHEMA))
    assert none.usage.prompt_tokens == plain.usage.prompt_tokens
    assert none.choices[0].message.content == plain.choices[0].message.content


def test_results_of_tools_are_messages(client: openai.OpenAI) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns: Any = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    answer = client.chat.completions.create(model="tiny", messages=turns, max_tokens=5)
    written = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    rendered = f"<user\nRain?><assistant\n{written}><user\n<tool_response>\nnoon\n</tool_response>><assistant\n"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(rendered)
    wrong: Any
    for wrong in ({**turns[2], "tool_call_id": None}, {"role": "assistant", "content": None}):
        with pytest.raises(openai.BadRequestError, match="messages"):
            client.chat.completions.create(model="tiny", messages=[*turns[:2], wrong], max_tokens=5)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required", "stop": ["x"]}, "stop"),
        ({"tools": None, "response_format": {"type": "json_object"}, "stop": ["x"]}, "stop"),
        ({"response_format": {"type": "json_object"}, "stop": "x"}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": 3}}}]}, "tools"),
        ({"model": "labels"}, "tools"),
    ],
)
def test_what_tools_cannot_keep_is_refused_by_name(client: openai.OpenAI, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            **{"model": "wide", "messages": ASK, "tools": [WEATHER], "max_tokens": 5, **more}
        )
    assert (caught.value.param or "").split(".")[0] == param


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"name": "weather", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ],
)
def test_anthropics_stop_sequences_are_refused_by_their_own_name(running: Running, more: dict[str, Any]) -> None:
    asked = {"model": "wide", "max_tokens": 5, "messages": ASK, "stop_sequences": ["x"], **more}
    reply = request(running.port, "POST", "/v1/messages", key=running.key, body=json.dumps(asked).encode())
    assert reply.status == 400
    assert reply.json["error"]["message"].startswith("stop_sequences would cut")


@pytest.mark.parametrize("form", [TAGGED, OBJECT, ARRAY], ids=["tagged", "object", "array"])
def test_stop_strings_end_texts_and_no_chosen_calls(form: Form) -> None:
    model = tiny("wide")
    grammar = Offer([Tool("weather", None, SCHEMA)], Choice(), form).grammar(None)
    stops = ("city", "}", "tool_call>\n{")

    def written(text: str) -> AnswerState:
        """The answer of a model that wants to write ``text``."""
        ids = model.text.tokenizer.encode(text)
        guide = Guides(model.text, model.config.vocab_size).tools(grammar, form.until)
        state = AnswerState(model.text.tokenizer, SamplingParams(temperature=0, stop=stops), [1], 1000, guide)
        while state.finish_reason is None and len(state.tokens) < len(ids):
            logits = np.zeros(model.config.vocab_size, dtype=np.float32)
            logits[ids[len(state.tokens)]] = 9
            state.take(logits)
        return state

    arguments = '{"city":"Bandung","days":3}'
    call = f"{form.opening}{form.head}weather{form.middle}{arguments}}}{form.closing}"
    state = written(("Let me see.\n" if form.tagged else "") + call)
    assert state.stop_string is None
    (made,) = read_whole(form, state.text).calls
    assert made.arguments == arguments
    state = written("A city is one.")
    assert (state.text, state.stop_string) == ("A ", "city")


def test_anthropics_tools_are_called_and_answered(claude: anthropic.Anthropic) -> None:
    tool: Any = {"name": "weather", "description": "Says it.", "input_schema": SCHEMA}
    ask: Any = {"model": "wide", "max_tokens": 900, "messages": ASK, "tools": [tool], "extra_body": {"temperature": 0}}
    message = claude.messages.create(tool_choice={"type": "any"}, **ask)
    assert message.stop_reason == "tool_use"
    for block in message.content:
        assert block.type == "tool_use"
        assert keeps_schema(json.dumps(block.input))
    named: Any = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    with claude.messages.stream(tool_choice=named, **ask) as stream:
        kinds = [event.type for event in stream if event.type.startswith(("message_", "content_"))]
        final = stream.get_final_message()
    assert kinds[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    (used,) = final.content
    assert used.type == "tool_use"
    assert keeps_schema(json.dumps(used.input))
    counted = claude.messages.count_tokens(model="wide", messages=ASK, tools=[tool])
    assert counted.input_tokens > claude.messages.count_tokens(model="wide", messages=ASK).input_tokens
    turns: Any = [
        *ASK,
        {"role": "assistant", "content": [block.to_dict() for block in final.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "dry"}]},
    ]
    after = claude.messages.create(**{**ask, "messages": turns, "max_tokens": 5})
    assert after.content[0].type == "text"
    with pytest.raises(anthropic.BadRequestError, match="tool_result"):
        claude.messages.create(**{**ask, "messages": [*ASK, {**turns[2], "role": "assistant"}, *ASK]})


@pytest.mark.parametrize("form", [TAGGED, OBJECT, ARRAY], ids=["tagged", "object", "array"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_read_whatever_the_size_of_pieces(form: Form, size: int) -> None:
    first, second = {"a": 'x}"{[\\'}, {"b": [{"c": "</tool_call>"}]}
    calls = [form.written("one", first)] + ([form.written("two", second)] if form.separator else [])
    before = "Let me see. < <tool" if form.tagged else ""
    written = (before + "\n" if before else "") + form.opening + form.separator.join(calls) + form.closing
    reader, read = ToolReader(form), Read()
    for start in range(0, len(written), size):
        for part in reader.feed(written[start : start + size]):
            read.add(part)
    for part in reader.finish():
        read.add(part)
    assert read.text == before
    assert [json.loads(call.arguments) for call in read.calls] == [first, second][: len(calls)]
    assert [call.name for call in read.calls] == ["one", "two"][: len(calls)]
    assert len({call.id for call in read.calls}) == len(calls)


@pytest.mark.parametrize("form", [TAGGED, OBJECT, ARRAY, None], ids=["tagged", "object", "array", "none"])
@pytest.mark.parametrize("text", ["", "Hello  ", '{"nam', '{"nope": 1}', "[1]", "a <tool_cal", "\n <b> \n"])
def test_text_that_is_no_call_comes_through_unchanged(form: Form | None, text: str) -> None:
    reader = ToolReader(form)
    parts = [part for letter in text for part in reader.feed(letter)] + list(reader.finish())
    assert all(isinstance(part, Text) for part in parts)
    assert "".join(part.text for part in parts if isinstance(part, Text)) == text
    assert read_whole(form, text).text == text


def test_an_answer_cut_within_a_call_gives_what_there_is() -> None:
    parts = list(ToolReader(TAGGED).feed('Hm\n<tool_call>\n{"name": "one", "arguments": {"a": "b'))
    assert [type(part) for part in parts] == [Text, CallBegins, Arguments]
    assert parts[2] == Arguments(0, '{"a": "b')


HERMES = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
)
MISTRAL = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}{% if m.tool_calls %}[TOOL_CALLS] ["
    "{% for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}{% endfor %}]'
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


def test_the_form_is_found_in_the_template() -> None:
    def found(source: str) -> Form:
        return form_of(JinjaTemplate(source, {"bos_token": "", "eos_token": ""}, "test"))

    assert found(CHATML) == TAGGED
    assert form_of(None) == TAGGED
    assert found(HERMES).native
    assert found(HERMES).opening == TAGGED.opening
    assert found(MISTRAL) == ARRAY
    assert found(LLAMA31) == OBJECT


def test_mistrals_ids_have_nine_letters_and_still_belong_together() -> None:
    call = {"id": "call_0123456789", "type": "function", "function": {"name": "a", "arguments": {}}}
    turns: Any = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "x"},
    ]
    made = dialogue(ARRAY, turns, [], Choice())
    assert made[0]["tool_calls"][0]["id"] == made[1]["tool_call_id"]
    assert len(made[1]["tool_call_id"]) == 9
    assert dialogue(OBJECT, turns, [Tool("a", None, {})], Choice()) == turns
