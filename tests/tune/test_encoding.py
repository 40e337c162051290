"""Rows as token ids."""

from __future__ import annotations

from pathlib import Path

from empu.data.prompts import task_of
from empu.data.reader import read_rows
from empu.text import load_text_processor
from empu.tune.encoding import encode_rows
from empu.tune.examples import Example
from tests.data.example_files import lines
from tests.text.gguf_metadata import gguf_metadata


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
