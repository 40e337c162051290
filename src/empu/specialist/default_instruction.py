"""The instruction of a specialist as the default of an exported chat template.

Other programs do not read ``task.json``. A template that begins with the instruction asks the exported model as it was
tuned, unless the dialogue has a system message of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from empu.text.base import ChatTemplate
from empu.text.task import Task
from empu.text.templates.turns import SEPARATOR, takes_system_message

_SYSTEM = """\
{%- if messages and messages[0]['role'] != 'system' %}
{%- set messages = [{'role': 'system', 'content': INSTRUCTION}] + messages %}
{%- endif %}
"""
_IN_FIRST_QUESTION = """\
{%- if messages and messages[0]['role'] == 'user' and messages[0]['content'] is string \
and not messages[0]['content'].startswith(INSTRUCTION) %}
{%- set messages = [{'role': 'user', 'content': INSTRUCTION + SEPARATOR + messages[0]['content']}] + messages[1:] %}
{%- endif %}
"""


def add_instruction(source: str, task: Task | None, template: ChatTemplate | None) -> str:
    """Return the Jinja source of ``template`` with the instruction of the task as the default system message."""
    if task is None or not task.instruction or template is None:
        return source
    block = _SYSTEM if takes_system_message(template) else _IN_FIRST_QUESTION
    values = {"INSTRUCTION": task.instruction, "SEPARATOR": SEPARATOR}
    return re.sub("|".join(values), lambda match: _jinja_string(values[match[0]]), block) + source


def add_instruction_to_files(files: dict[str, bytes], task: Task | None, template: ChatTemplate | None) -> None:
    """Change the chat templates among the files of a Hugging Face folder."""
    if (name := "chat_template.jinja") in files:
        files[name] = add_instruction(files[name].decode("utf-8"), task, template).encode("utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        if name not in files:
            continue
        settings: dict[str, Any] = json.loads(files[name])
        stored = settings.get("chat_template")
        changed = _changed(stored, task, template)
        if changed != stored:
            settings["chat_template"] = changed
            files[name] = (json.dumps(settings, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def add_instruction_to_metadata(
    metadata: Mapping[str, Any], task: Task | None, template: ChatTemplate | None
) -> dict[str, Any]:
    """Return the metadata of a GGUF file with its chat templates changed, and the instruction as its description."""
    result = dict(metadata)
    for key, value in metadata.items():
        if key.startswith("tokenizer.chat_template") and isinstance(value, str):
            result[key] = add_instruction(value, task, template)
    if task is not None and task.instruction:
        result["general.description"] = f"Tuned with this instruction as the system message: {task.instruction}"
    return result


def _changed(stored: Any, task: Task | None, template: ChatTemplate | None) -> Any:
    if isinstance(stored, str):
        return add_instruction(stored, task, template)
    if isinstance(stored, list):
        return [
            {**item, "template": add_instruction(item["template"], task, template)}
            if isinstance(item, dict) and isinstance(item.get("template"), str)
            else item
            for item in stored
        ]
    return stored


def _jinja_string(text: str) -> str:
    """Return a Jinja literal. Its escapes are those of JSON, except that other alphabets are not escaped."""
    return json.dumps(text, ensure_ascii=False)
