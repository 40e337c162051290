"""Answers within a grammar: they always keep it, and what it leaves no choice about costs no pass of the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from empu.engine.backends.native import NativeBackend
from empu.engine.backends.protocol import Chunk
from empu.engine.generation import Completion
from empu.engine.language_model import LanguageModel, open_model
from empu.engine.sampling import SamplingParams
from empu.engine.scheduler import Scheduler
from empu.engine.structured_output import GrammarError, Guides, answer, guides_of, read_schema
from empu.errors import UsageError
from empu.text.base import Message
from tests.engine.test_scheduler import Reader

TICKET = {
    "type": "object",
    "properties": {
        "queue": {"enum": ["billing", "delivery", "installation"]},
        "urgent": {"type": "boolean"},
        "order": {"type": "integer", "minimum": 0, "maximum": 99999},
        "summary": {"type": "string", "maxLength": 40},
    },
    "required": ["queue", "urgent", "order", "summary"],
    "additionalProperties": False,
}
ASKED: list[Message] = [{"role": "user", "content": "My parcel 4711 has not come for three weeks! Reply in JSON."}]
GREEDY = SamplingParams(temperature=0.0, max_tokens=120)


class Counting:
    """Counts passes and the tokens that they read."""

    def __init__(self, backend: NativeBackend) -> None:
        self._forward = backend.forward
        self.chunks: list[int] = []
        backend.forward = self.forward  # type: ignore[method-assign]

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        self.chunks += [len(chunk.tokens) for chunk in batch]
        return self._forward(batch)


@pytest.fixture(scope="module")
def model(default_gguf: Path) -> LanguageModel:
    return open_model(default_gguf, engine="native", context=1024)


def checked(value: Any) -> None:
    assert list(value) == ["queue", "urgent", "order", "summary"]
    assert value["queue"] in TICKET["properties"]["queue"]["enum"]  # type: ignore[index]
    assert isinstance(value["urgent"], bool)
    assert 0 <= value["order"] <= 99999
    assert len(value["summary"]) <= 40


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_every_answer_keeps_its_schema(model: LanguageModel, temperature: float) -> None:
    for seed in range(4):
        value, completion = answer(model, ASKED, TICKET, SamplingParams(temperature=temperature, seed=seed))
        checked(value)
        assert completion.finish_reason == "stop"
        assert completion.text == json.dumps(value, ensure_ascii=False, separators=(",", ":")) or temperature > 0


def test_forced_tokens_cost_no_pass(model: LanguageModel) -> None:
    assert isinstance(model.backend, NativeBackend)
    schema = {
        "type": "object",
        "properties": {"is_it_urgent": {"type": "boolean"}},
        "required": ["is_it_urgent"],
        "additionalProperties": False,
    }
    counting = Counting(model.backend)
    value, completion = answer(model, ASKED, schema, GREEDY)
    assert value in ({"is_it_urgent": True}, {"is_it_urgent": False})
    assert completion.completion_tokens >= 8
    assert len(counting.chunks) <= 2, "one pass for the prompt with what is forced behind it, at most one for a choice"


def test_an_answer_without_any_choice_needs_no_pass(model: LanguageModel) -> None:
    assert isinstance(model.backend, NativeBackend)
    counting = Counting(model.backend)
    value, _ = answer(model, ASKED, {"const": {"a": [1, 2]}}, GREEDY)
    assert value == {"a": [1, 2]}
    assert counting.chunks == []


def test_with_probabilities_every_token_comes_from_the_model(model: LanguageModel) -> None:
    completion = model.stream(
        ASKED, SamplingParams(temperature=0.0, logprobs=1, max_tokens=60), guide=guides_of(model).json_schema(TICKET)
    ).completion
    assert completion.logprobs is not None
    assert len(completion.logprobs) == completion.completion_tokens


def test_regular_expressions_and_grammars(model: LanguageModel) -> None:
    def ask(guide: Any) -> Completion:
        return model.stream("The date is", SamplingParams(seed=1, max_tokens=12), guide=guide).completion

    date = ask(guides_of(model).regex(r" [0-9]{4}-[01][0-9]")).text
    assert len(date) == 8
    assert date[0] == " "
    assert date[5] == "-"
    total = ask(guides_of(model).lark('start: NUMBER ("+" NUMBER)+\nNUMBER: /[1-9]/')).text
    assert all(part.isdigit() for part in total.split("+") if part)


def test_an_answer_that_is_cut_short_says_so(model: LanguageModel) -> None:
    with pytest.raises(GrammarError, match="more of them"):
        answer(model, ASKED, TICKET, SamplingParams(temperature=0.0, max_tokens=5))


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"enum": ["x" * 70_000]}, {"$ref": "#/nowhere"}])
def test_schemas_that_cannot_be_kept_are_refused(model: LanguageModel, schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarError):
        guides_of(model).json_schema(schema)


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(", "unclosed group"), (r"(a)\1", "backreferences"), ("(?=x)", "look-ahead")]
)
def test_patterns_are_refused_with_the_reason(model: LanguageModel, pattern: str, reason: str) -> None:
    with pytest.raises(GrammarError, match=reason):
        guides_of(model).json_schema({"type": "string", "pattern": pattern})


def test_schema_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    with pytest.raises(UsageError, match=r"schema\.json"):
        read_schema(path)
    for bad in ("{", "[]", '"a"'):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(UsageError, match=r"schema\.json"):
            read_schema(path)
    path.write_text(json.dumps(TICKET), encoding="utf-8")
    assert read_schema(path) == TICKET


def test_the_scheduler_gives_what_an_answer_alone_gives(default_gguf: Path, model: LanguageModel) -> None:
    alone = {name: answer(model, ASKED, schema, GREEDY)[1].text for name, schema in SCHEMAS.items()}
    other = open_model(default_gguf, engine="native", context=1024)
    guides = Guides(other.text, other.config.vocab_size)
    scheduler = Scheduler(other.backend, other.text.tokenizer, other.context)
    scheduler.start()
    readers = {}
    for name, schema in SCHEMAS.items():
        readers[name] = Reader()
        prompt = other.stream(ASKED, GREEDY).prompt
        scheduler.submit(prompt, GREEDY, readers[name], guides.json_schema(schema))
    for name, reader in readers.items():
        assert reader.completion.text == alone[name]
        assert reader.completion.finish_reason == "stop"
    scheduler.close(drain=True)
    assert scheduler.counts.failed == 0


SCHEMAS: dict[str, dict[str, Any]] = {
    "ticket": TICKET,
    "constant": {"const": "nothing to choose"},
    "list": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3},
}
