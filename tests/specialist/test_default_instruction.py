"""Exported templates ask as the model was tuned: the instruction is their default system message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from empu.specialist.default_instruction import (
    add_instruction,
    add_instruction_to_files,
    add_instruction_to_metadata,
)
from empu.text import load_text_processor
from empu.text.prompt_encoding import encode_prompt
from empu.text.task import Task
from empu.text.templates.jinja import JinjaTemplate
from tests.tiny_bases import CHATML, STRICT, write_base

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
TASK = Task("label", 'Name the "category": {{ x }} %} 部門 🙂\nof \\n it.', ("a", "b"))
QUESTION = {"role": "user", "content": "Where is it?"}
OWN = {"role": "system", "content": "Be brief."}


def jinja(source: str) -> JinjaTemplate:
    return JinjaTemplate(source, VARIABLES, "test")


@pytest.mark.parametrize("source", [CHATML, STRICT], ids=["system role", "no system role"])
def test_an_exported_template_asks_as_the_model_was_tuned(source: str) -> None:
    exported = add_instruction(source, TASK, jinja(source))
    from empu.text.templates.turns import merge_system_message

    tuned = jinja(source).render(merge_system_message(jinja(source), TASK.messages("Where is it?")))
    assert jinja(exported).render([QUESTION]) == tuned
    # The specialist itself is opened again from the export: its instruction is not written twice.
    asked = merge_system_message(jinja(exported), TASK.messages("Where is it?"))
    assert jinja(exported).render(asked) == tuned
    turns = [QUESTION, {"role": "assistant", "content": "b"}, QUESTION]
    assert jinja(exported).render(turns).count(str(TASK.instruction)) == 1


def test_a_system_message_of_the_dialogue_replaces_the_instruction() -> None:
    exported = add_instruction(CHATML, TASK, jinja(CHATML))
    assert jinja(exported).render([OWN, QUESTION]) == jinja(CHATML).render([OWN, QUESTION])


@pytest.mark.parametrize("source", [CHATML, STRICT], ids=["system role", "no system role"])
def test_transformers_and_empu_render_the_exported_template_alike(source: str) -> None:
    from tokenizers import Tokenizer, models

    exported = add_instruction(source, TASK, jinja(source))
    theirs = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(models.BPE({}, [])), bos_token="<s>", eos_token="</s>", chat_template=exported
    )
    rendered = theirs.apply_chat_template([QUESTION], tokenize=False, add_generation_prompt=True)
    assert rendered == jinja(exported).render([QUESTION])
    assert str(TASK.instruction) in rendered


def test_tasks_without_instruction_change_no_template() -> None:
    assert add_instruction(CHATML, Task("messages"), jinja(CHATML)) == CHATML
    assert add_instruction(CHATML, None, jinja(CHATML)) == CHATML
    assert add_instruction_to_metadata({"tokenizer.chat_template": CHATML}, None, jinja(CHATML)) == {
        "tokenizer.chat_template": CHATML
    }


def test_every_place_of_a_template_gets_the_instruction() -> None:
    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": CHATML}]
    for stored in (CHATML, named):
        files = {"tokenizer_config.json": json.dumps({"chat_template": stored}).encode()}
        add_instruction_to_files(files, TASK, jinja(CHATML))
        assert files["tokenizer_config.json"].count(b"Name the") == (1 if stored is CHATML else 2)
    files = {"chat_template.jinja": CHATML.encode()}
    add_instruction_to_files(files, TASK, jinja(CHATML))
    assert b"Name the" in files["chat_template.jinja"]
    metadata = add_instruction_to_metadata({"tokenizer.chat_template": CHATML}, TASK, jinja(CHATML))
    assert "Name the" in metadata["tokenizer.chat_template"]
    assert str(TASK.instruction) in metadata["general.description"]


def test_the_instruction_is_tuned_in_the_first_question_without_a_system_role(tmp_path: Path) -> None:
    text = load_text_processor("huggingface", write_base(tmp_path, STRICT), {})
    prompt = encode_prompt(text, Task("label", "Name it.", ("a", "b")).messages("Where?"))
    assert text.tokenizer.decode(prompt) == "[INST] Name it.\n\nWhere? [/INST]"
