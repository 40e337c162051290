"""Rows as token ids."""

from __future__ import annotations

from pathlib import Path

from empu.data.prompts import task_of
from empu.data.reader import read_rows
from empu.data.rows import Kind, Row
from empu.text import load_text_processor
from empu.tune.encoding import encode_rows, template_problem
from empu.tune.examples import Example
from tests.data.example_files import lines
from tests.text.gguf_metadata import gguf_metadata
from tests.tiny_bases import STRICT, write_base


def test_assistant_messages_of_weight_0_are_in_the_prompt_and_not_trained_on(
    default_gguf: Path, tmp_path: Path
) -> None:
    turns = [("user", "Hi"), ("assistant", "no"), ("user", "Well?"), ("assistant", "yes")]
    messages = [{"role": role, "content": content} for role, content in turns]
    messages[1] |= {"weight": 0}  # type: ignore[dict-item]
    path = tmp_path / "messages.jsonl"
    path.write_bytes(lines({"messages": messages}))
    rows = list(read_rows(path).rows())
    text = load_text_processor("gguf", default_gguf, gguf_metadata(default_gguf))
    [example] = encode_rows(text, task_of(rows[0].kind, rows), rows)
    assert isinstance(example, Example)
    assert "no" in text.tokenizer.decode(list(example.prompt))
    assert text.tokenizer.decode(list(example.completion)).startswith("yes")


def test_a_row_that_the_template_refuses_has_its_reason(tmp_path: Path) -> None:
    text = load_text_processor("huggingface", write_base(tmp_path, STRICT), {})
    question, answer = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    system = {"role": "system", "content": "Be brief."}

    def problem(*messages: dict[str, str]) -> str | None:
        return template_problem(text, Row(Kind.MESSAGES, {"messages": list(messages)}, "a.jsonl", 1, "0" * 64))

    assert problem(question, answer) is None
    assert problem(system, question, answer, question, answer) is None
    reason = "the chat template of the base model refuses it: user and assistant must take turns"
    assert problem(question, question, answer) == reason
    assert template_problem(text, Row(Kind.LABEL, {"text": "a", "label": "b"}, "a.csv", 1, "0" * 64)) is None
