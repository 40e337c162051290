"""Grammars of answers that may call tools, with stop strings beside them."""

from __future__ import annotations

import numpy as np
import pytest

from empu.engine.generation import GenerationState
from empu.engine.sampling import SamplingParams
from empu.serving.grammars import compile_tool_grammar
from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.grammar import answer_grammar
from empu.serving.tools.hermes import PROMPTED
from empu.serving.tools.llama3 import LLAMA3
from empu.serving.tools.mistral import MISTRAL
from empu.serving.tools.parser import parse_answer
from empu.serving.tools.types import Tool, ToolSet
from tests.server.running_server import open_tiny
from tests.server.test_tools import SCHEMA


@pytest.mark.parametrize("dialect", [PROMPTED, LLAMA3, MISTRAL], ids=["prompted", "llama3", "mistral"])
def test_stop_strings_end_text_but_not_calls(dialect: ToolDialect) -> None:
    model = open_tiny("wide")
    grammar = answer_grammar(dialect, ToolSet([Tool("weather", None, SCHEMA)]), None)
    stops = ("city", "}", "tool_call>\n{")

    def generate(text: str) -> GenerationState:
        """Return the generation of a model that prefers the tokens of ``text``."""
        ids = model.text.tokenizer.encode(text)
        matcher = compile_tool_grammar(model.grammar_compiler, grammar, dialect.stop_boundary)
        state = GenerationState(model.text.tokenizer, SamplingParams(temperature=0, stop=stops), [1], 1000, matcher)
        while state.finish_reason is None and len(state.tokens) < len(ids):
            logits = np.zeros(model.config.vocab_size, dtype=np.float32)
            logits[ids[len(state.tokens)]] = 9
            state.sample(logits)
        return state

    arguments = '{"city":"Bandung","days":3}'
    call = f"{dialect.opening}{dialect.head}weather{dialect.middle}{arguments}}}{dialect.closing}"
    state = generate(("Let me see.\n" if dialect.marker else "") + call)
    assert state.stop_string is None
    (parsed_call,) = parse_answer(dialect, state.text).calls
    assert parsed_call.arguments == arguments
    state = generate("A city is one.")
    assert (state.text, state.stop_string) == ("A ", "city")
