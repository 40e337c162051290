"""What a row teaches."""

from __future__ import annotations

from pathlib import Path

from empu.data.reader import read_rows
from empu.data.rows import Row
from empu.text import load_text
from empu.tune.encoding import examples_of, task_of
from tests.data.awkward import lines
from tests.text.files import gguf_metadata


def test_answers_of_weight_0_are_read_and_not_learnt(default_gguf: Path, tmp_path: Path) -> None:
    said = [("user", "Hi"), ("assistant", "no"), ("user", "Well?"), ("assistant", "yes")]
    talk = [{"role": role, "content": content} for role, content in said]
    talk[1] |= {"weight": 0}  # type: ignore[dict-item]
    path = tmp_path / "talks.jsonl"
    path.write_bytes(lines({"messages": talk}))
    rows = [row for row in read_rows(path).items() if isinstance(row, Row)]
    text = load_text("gguf", default_gguf, gguf_metadata(default_gguf))
    [example] = examples_of(text, task_of(rows[0].kind, rows), rows)
    assert "no" in text.tokenizer.decode(list(example.prompt))
    assert text.tokenizer.decode(list(example.answer)).startswith("yes")
