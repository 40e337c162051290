"""Detection of a model's tool-call dialect, and the messages for its template."""

from __future__ import annotations

from typing import Any

from empu.serving.tools.detection import detect_dialect
from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.hermes import HERMES, PROMPTED
from empu.serving.tools.llama3 import LLAMA3
from empu.serving.tools.mistral import MISTRAL
from empu.serving.tools.prompt import render_tool_messages
from empu.serving.tools.types import Tool, ToolSet
from empu.text.templates.jinja import JinjaTemplate
from tests.text.chat_families import CHATML, LLAMA31

HERMES_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
)
MISTRAL_TEMPLATE = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}{% if m.tool_calls %}[TOOL_CALLS] ["
    "{% for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}{% endfor %}]'
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


def test_the_dialect_is_detected_from_the_template() -> None:
    def detect(source: str) -> ToolDialect:
        return detect_dialect(JinjaTemplate(source, {"bos_token": "", "eos_token": ""}, "test"))

    assert detect(CHATML) == PROMPTED
    assert detect_dialect(None) == PROMPTED
    assert detect(HERMES_TEMPLATE) == HERMES
    assert detect(MISTRAL_TEMPLATE) == MISTRAL
    assert detect(LLAMA31) == LLAMA3


def test_mistral_call_ids_have_nine_characters_and_still_match() -> None:
    call = {"id": "call_0123456789", "type": "function", "function": {"name": "a", "arguments": {}}}
    turns: Any = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "x"},
    ]
    rendered = render_tool_messages(MISTRAL, turns, ToolSet())
    assert rendered[0]["tool_calls"][0]["id"] == rendered[1]["tool_call_id"]
    assert len(rendered[1]["tool_call_id"]) == 9
    assert render_tool_messages(LLAMA3, turns, ToolSet([Tool("a", None, {})])) == turns
