"""What a chat template does with turns: the token behind an answer, and system messages that it refuses or drops."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.errors import TemplateError
from empu.text import load_text_processor
from empu.text.base import Message, TextProcessor
from empu.text.prompt_encoding import encode_answer, encode_prompt
from empu.text.templates.jinja import JinjaTemplate
from empu.text.templates.turns import end_of_turn_id, merge_system_message
from tests.text.chat_families import FAMILIES
from tests.text.tokenizers.test_special_tokens import tokenizer
from tests.tiny_bases import CHATML, STRICT, write_base

DROPPING = STRICT.replace("{{ raise_exception('user and assistant must take turns') }}", "").replace(
    "{% else %}", "{% elif m['role'] == 'assistant' %}"
)
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
TOKENS = {"<s>": 0, "</s>": 1, "<|im_start|>": 2, "<|im_end|>": 3, "<|turn|>": 4}
SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "Why?"}


def processor(source: str | None, tokens: dict[str, int] = TOKENS) -> TextProcessor:
    template = JinjaTemplate(source, VARIABLES, "test") if source is not None else None
    return TextProcessor(tokenizer(tokens), template, False)


@pytest.mark.parametrize(
    ("source", "token"),
    [
        (STRICT, "</s>"),
        (CHATML, "<|im_end|>"),
        (CHATML.replace("<|im_end|>", "  <|turn|>"), "<|turn|>"),
        (CHATML.replace("<|im_end|>", ""), "<|im_end|>"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "<|im_end|>"),
        ("{{ raise_exception('no') }}", "<|im_end|>"),
        (None, "<|im_end|>"),
    ],
    ids=["by a variable", "by name", "unknown name", "no end", "changed answer", "failing", "no template"],
)
def test_the_end_of_an_answer_is_the_token_that_the_template_writes_behind_it(source: str | None, token: str) -> None:
    assert end_of_turn_id(processor(source)) == TOKENS[token]


def test_the_default_model_keeps_its_end_of_turn(default_processor: TextProcessor) -> None:
    text = TextProcessor(default_processor.tokenizer, JinjaTemplate(CHATML, VARIABLES, "default"), False)
    assert end_of_turn_id(text) == end_of_turn_id(default_processor) == text.tokenizer.special_tokens["<|im_end|>"]


@pytest.mark.parametrize("source", [STRICT, DROPPING], ids=["refused", "dropped"])
def test_a_system_message_begins_the_first_question_where_the_template_has_no_system_role(source: str) -> None:
    template = JinjaTemplate(source, VARIABLES, "test")
    merged = merge_system_message(template, [SYSTEM, QUESTION])
    assert merged == [{"role": "user", "content": "Be brief.\n\nWhy?"}]
    assert template.render(merged) == "<s>[INST] Be brief.\n\nWhy? [/INST]"


def test_a_system_message_stays_where_the_template_has_the_role() -> None:
    for source in (CHATML, "{{ raise_exception('no') }}"):
        template = JinjaTemplate(source, VARIABLES, "test")
        assert merge_system_message(template, [SYSTEM, QUESTION]) == [SYSTEM, QUESTION]


def test_parts_of_a_question_follow_the_system_message() -> None:
    template = JinjaTemplate(STRICT, VARIABLES, "test")
    parts = [{"type": "text", "text": "Why?"}]
    (merged,) = merge_system_message(template, [SYSTEM, {"role": "user", "content": parts}])
    assert merged["content"] == [{"type": "text", "text": "Be brief.\n\n"}, *parts]
    assert merge_system_message(template, [{**SYSTEM, "content": ""}, QUESTION]) == [QUESTION]


def test_other_orders_are_still_refused_by_the_template(default_processor: TextProcessor) -> None:
    text = TextProcessor(default_processor.tokenizer, JinjaTemplate(STRICT, VARIABLES, "test"), False)
    dialogues: list[list[Message]] = [[QUESTION, QUESTION], [SYSTEM], [SYSTEM, SYSTEM, QUESTION]]
    for messages in dialogues:
        with pytest.raises(TemplateError, match="take turns"):
            encode_prompt(text, messages)


def test_instructions_reach_models_of_every_family(default_processor: TextProcessor) -> None:
    for family, source in FAMILIES.items():
        text = TextProcessor(default_processor.tokenizer, JinjaTemplate(source, VARIABLES, family), False)
        assert "Be brief." in text.tokenizer.decode(encode_prompt(text, [SYSTEM, QUESTION])), family


def test_an_end_that_no_file_declares_still_ends_answers(tmp_path: Path) -> None:
    write_base(tmp_path, CHATML.replace("<|im_end|>", "<|im_start|>"), eos=None)
    text = load_text_processor("huggingface", tmp_path, {})
    token = text.tokenizer.special_tokens["<|im_start|>"]
    assert encode_answer(text, "yes")[-1] == token
    assert token in text.tokenizer.eos_ids
