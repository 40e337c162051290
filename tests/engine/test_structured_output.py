"""Structured output always follows its grammar, and forced tokens need no forward pass."""

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
from empu.engine.language_model import LanguageModel, open_model
from empu.engine.outputs import Completion
from empu.engine.sampling import SamplingParams
from empu.engine.scheduler import Scheduler
from empu.engine.structured_output import GrammarCompiler, GrammarError
from empu.text.base import Message
from tests.engine.doubles import UpdateCollector

TICKET_SCHEMA = {
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
MESSAGES: list[Message] = [{"role": "user", "content": "My parcel 4711 has not come for three weeks! Reply in JSON."}]
GREEDY = SamplingParams(temperature=0.0, max_tokens=120)


class ChunkCounter:
    """Records the number of tokens of each chunk."""

    def __init__(self, backend: NativeBackend) -> None:
        self._forward = backend.forward
        self.chunk_lengths: list[int] = []
        backend.forward = self.forward  # type: ignore[method-assign]

    def forward(self, batch: Sequence[Chunk]) -> list[npt.NDArray[np.float32]]:
        self.chunk_lengths += [len(chunk.tokens) for chunk in batch]
        return self._forward(batch)


@pytest.fixture(scope="module")
def model(default_gguf: Path) -> LanguageModel:
    return open_model(default_gguf, engine="native", context_length=1024)


def check_ticket(value: Any) -> None:
    assert list(value) == ["queue", "urgent", "order", "summary"]
    assert value["queue"] in TICKET_SCHEMA["properties"]["queue"]["enum"]  # type: ignore[index]
    assert isinstance(value["urgent"], bool)
    assert 0 <= value["order"] <= 99999
    assert len(value["summary"]) <= 40


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_every_output_follows_its_schema(model: LanguageModel, temperature: float) -> None:
    for seed in range(4):
        value, completion = model.generate_json(
            MESSAGES, TICKET_SCHEMA, SamplingParams(temperature=temperature, seed=seed)
        )
        check_ticket(value)
        assert completion.finish_reason == "stop"
        assert completion.text == json.dumps(value, ensure_ascii=False, separators=(",", ":")) or temperature > 0


def test_forced_tokens_need_no_forward_pass(model: LanguageModel) -> None:
    assert isinstance(model.backend, NativeBackend)
    schema = {
        "type": "object",
        "properties": {"is_it_urgent": {"type": "boolean"}},
        "required": ["is_it_urgent"],
        "additionalProperties": False,
    }
    counter = ChunkCounter(model.backend)
    value, completion = model.generate_json(MESSAGES, schema, GREEDY)
    assert value in ({"is_it_urgent": True}, {"is_it_urgent": False})
    assert completion.completion_tokens >= 8
    assert len(counter.chunk_lengths) <= 2, "one pass for the prompt and its forced tokens, at most one for the choice"


def test_an_output_without_a_choice_needs_no_forward_pass(model: LanguageModel) -> None:
    assert isinstance(model.backend, NativeBackend)
    counter = ChunkCounter(model.backend)
    value, _ = model.generate_json(MESSAGES, {"const": {"a": [1, 2]}}, GREEDY)
    assert value == {"a": [1, 2]}
    assert counter.chunk_lengths == []


def test_with_logprobs_every_token_comes_from_the_model(model: LanguageModel) -> None:
    completion = model.stream(
        MESSAGES,
        SamplingParams(temperature=0.0, logprobs=1, max_tokens=60),
        constraint=model.grammar_compiler.compile_json_schema(TICKET_SCHEMA),
    ).completion
    assert completion.logprobs is not None
    assert len(completion.logprobs) == completion.completion_tokens


def test_regular_expressions_and_grammars_are_followed(model: LanguageModel) -> None:
    def generate(constraint: Any) -> Completion:
        return model.stream("The date is", SamplingParams(seed=1, max_tokens=12), constraint=constraint).completion

    date = generate(model.grammar_compiler.compile_regex(r" [0-9]{4}-[01][0-9]")).text
    assert len(date) == 8
    assert date[0] == " "
    assert date[5] == "-"
    total = generate(model.grammar_compiler.compile_lark('start: NUMBER ("+" NUMBER)+\nNUMBER: /[1-9]/')).text
    assert all(part.isdigit() for part in total.split("+") if part)


def test_an_incomplete_output_is_an_error(model: LanguageModel) -> None:
    with pytest.raises(GrammarError, match="more of them"):
        model.generate_json(MESSAGES, TICKET_SCHEMA, SamplingParams(temperature=0.0, max_tokens=5))


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"enum": ["x" * 70_000]}, {"$ref": "#/nowhere"}])
def test_unusable_schemas_are_refused(model: LanguageModel, schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarError):
        model.grammar_compiler.compile_json_schema(schema)


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(", "unclosed group"), (r"(a)\1", "backreferences"), ("(?=x)", "look-ahead")]
)
def test_unsupported_patterns_are_refused_with_the_reason(model: LanguageModel, pattern: str, reason: str) -> None:
    with pytest.raises(GrammarError, match=reason):
        model.grammar_compiler.compile_json_schema({"type": "string", "pattern": pattern})


def test_the_scheduler_gives_the_output_of_a_single_generation(default_gguf: Path, model: LanguageModel) -> None:
    alone = {name: model.generate_json(MESSAGES, schema, GREEDY)[1].text for name, schema in SCHEMAS.items()}
    other = open_model(default_gguf, engine="native", context_length=1024)
    compiler = GrammarCompiler(other.text, other.config.vocab_size)
    scheduler = Scheduler(other.backend, other.text.tokenizer, other.context_length)
    scheduler.start()
    collectors = {}
    for name, schema in SCHEMAS.items():
        collectors[name] = UpdateCollector()
        prompt = other.stream(MESSAGES, GREEDY).prompt
        scheduler.submit(prompt, GREEDY, collectors[name], compiler.compile_json_schema(schema))
    for name, collector in collectors.items():
        assert collector.completion.text == alone[name]
        assert collector.completion.finish_reason == "stop"
    scheduler.close(drain=True)
    assert scheduler.counters.failed == 0


SCHEMAS: dict[str, dict[str, Any]] = {
    "ticket": TICKET_SCHEMA,
    "constant": {"const": "nothing to choose"},
    "list": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3},
}
