"""Templates render like in transformers, character for character, and fail where it fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from empu.errors import TemplateError
from empu.text.templates.jinja import JinjaTemplate, choose_template
from tests.text.chat_families import DIALOGUES, FAMILIES, TOOLS, VARIABLES
from tests.text.gguf_metadata import gguf_metadata


def expected(source: str, messages: list[dict[str, Any]], tools: Sequence[Any] | None, prompt: bool) -> str | None:
    """Return the rendering of transformers; ``None`` if it raises."""
    turns = [{key: value for key, value in message.items() if value is not None} for message in messages]
    variables: dict[str, Any] = {**VARIABLES, "chat_template": source, "add_generation_prompt": prompt}
    try:
        rendered: Any = render_jinja_template([turns], list(tools) if tools is not None else None, **variables)
    except Exception:
        return None
    return str(rendered[0][0])


@pytest.mark.parametrize("family", [*FAMILIES, "SmolLM2"])
def test_rendering_equals_transformers(family: str, default_gguf: Path) -> None:
    key = "tokenizer.chat_template"
    source = FAMILIES[family] if family in FAMILIES else str(gguf_metadata(default_gguf)[key])
    template = JinjaTemplate(source, VARIABLES, family)
    rendered = 0
    for name, messages in DIALOGUES.items():
        for tools in (None, TOOLS):
            for prompt in (True, False):
                reference = expected(source, messages, tools, prompt)
                if reference is None:
                    with pytest.raises(TemplateError):
                        template.render(messages, add_generation_prompt=prompt, tools=tools)
                    continue
                ours = template.render(messages, add_generation_prompt=prompt, tools=tools)
                assert ours == reference, f"{family}: {name}"
                rendered += 1
    assert rendered >= 20


def test_the_tool_template_is_used_with_tools() -> None:
    template = choose_template({"default": "plain", "tool_use": "tools", "rag": 7}, {}, "f")
    assert template is not None
    assert template.render([{"role": "user", "content": ""}]) == "plain"
    assert template.render([{"role": "user", "content": ""}], tools=TOOLS) == "tools"
    assert choose_template({"default": None}, {}, "f") is None
    assert choose_template({"default": " "}, {}, "f") is None
    with pytest.raises(TemplateError, match="is not a string"):
        choose_template({"default": 5}, {}, "f")


def test_strftime_now_returns_a_date() -> None:
    text = JinjaTemplate("{{ strftime_now('%Y-%m-%d') }}", {}, "f").render([{"role": "user", "content": ""}])
    assert len(text) == 10
    assert text[4] == "-"
