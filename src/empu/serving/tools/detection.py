"""Finds a model's tool-call dialect by rendering a call with its chat template."""

from __future__ import annotations

import re

from empu.errors import EmpuError
from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.hermes import HERMES, PROMPTED, TAG
from empu.serving.tools.llama3 import BARE_JSON, LLAMA3
from empu.serving.tools.mistral import MISTRAL
from empu.serving.tools.types import Tool
from empu.text.base import ChatTemplate, Message

DIALECTS: tuple[tuple[str, ToolDialect], ...] = (
    (re.escape(TAG), HERMES),
    (r"\[TOOL_CALLS\]", MISTRAL),
    (r'"parameters":\s*\{"probe_argument"', LLAMA3),
)
"""Pattern in a rendered call -> its dialect; the first match counts."""

_PROBE = Tool("probe_tool", "Probes.", {"type": "object", "properties": {"probe_argument": {"type": "integer"}}})
_CALL_ID = "call12345"
_USER: Message = {"role": "user", "content": "Probe."}
_CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": _CALL_ID, "type": "function", "function": {"name": _PROBE.name, "arguments": {"probe_argument": 1}}}
    ],
}
_RESULT: Message = {"role": "tool", "name": _PROBE.name, "tool_call_id": _CALL_ID, "content": "probe_result"}


def detect_dialect(template: ChatTemplate | None) -> ToolDialect:
    """Return the dialect of the model behind ``template``; :data:`PROMPTED` if the template supports no tools."""
    if template is None:
        return PROMPTED
    try:
        definitions = template.render([_USER], tools=[_PROBE.to_template()])
        dialogue = template.render([_USER, _CALL, _RESULT], tools=[_PROBE.to_template()])
    except EmpuError:
        return PROMPTED
    has_definition = _PROBE.name in definitions
    has_call = dialogue.count(_PROBE.name) > definitions.count(_PROBE.name)
    if not has_definition or not has_call or "probe_result" not in dialogue:
        return PROMPTED
    found = re.search(r'(?s:.{0,160})"probe_argument":\s*1', dialogue)
    call = found[0] if found is not None else ""
    return next((dialect for pattern, dialect in DIALECTS if re.search(pattern, call)), BARE_JSON)
