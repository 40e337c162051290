"""Prepares a dialogue with tools for a chat template, natively supported or not."""

from __future__ import annotations

import json
from collections.abc import Sequence

from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.types import ToolSet
from empu.text.base import Message


def render_tool_messages(dialect: ToolDialect, messages: Sequence[Message], tools: ToolSet) -> list[Message]:
    """Return messages that the chat template can render.

    ``messages`` are in the form of OpenAI's chat, with decoded arguments. For a template without tools, definitions,
    calls and results become plain text.
    """
    if dialect.is_native:
        return [_with_call_ids(dialect, message) for message in messages]
    turns: list[Message] = []
    for message in messages:
        text = str(message.get("content") or "")
        if message.get("tool_calls"):
            functions = [call["function"] for call in message["tool_calls"]]
            calls = dialect.format_calls([(function["name"], function["arguments"]) for function in functions])
            turns.append({"role": "assistant", "content": f"{text}\n{calls}" if text else calls})
        elif message["role"] == "tool":
            result = f"<tool_response>\n{text}\n</tool_response>"
            if turns and turns[-1]["role"] == "user" and str(turns[-1]["content"]).endswith("</tool_response>"):
                result = f"{turns.pop()['content']}\n{result}"
            turns.append({"role": "user", "content": result})
        else:
            turns.append(message)
    if tools.tools:
        instruction = tool_instruction(dialect, tools)
        if turns and turns[0]["role"] == "system":
            turns[0] = {"role": "system", "content": f"{turns[0]['content']}\n\n{instruction}"}
        else:
            turns.insert(0, {"role": "system", "content": instruction})
    return turns


def tool_instruction(dialect: ToolDialect, tools: ToolSet) -> str:
    """Return the system text that describes tools to a model whose template does not."""
    definitions = "\n".join(json.dumps(tool.to_template()["function"], ensure_ascii=False) for tool in tools.tools)
    example = f"{dialect.opening}{dialect.head}NAME{dialect.middle}{{...}}}}{dialect.closing}"
    rule = "Call a function when it helps to answer; otherwise answer in words."
    if tools.choice.required:
        name = tools.choice.name
        rule = f"Call the function {name}." if name is not None else "Call at least one function."
    return (
        f"You can call these functions, described by JSON Schema, one a line:\n{definitions}\n"
        f"A call is written exactly so, and nothing stands behind it:\n{example}\n{rule}"
    )


def _with_call_ids(dialect: ToolDialect, message: Message) -> Message:
    converted = dict(message)
    if converted.get("tool_calls"):
        calls = converted["tool_calls"]
        converted["tool_calls"] = [{**call, "id": dialect.convert_call_id(call["id"])} for call in calls]
    if "tool_call_id" in converted:
        converted["tool_call_id"] = dialect.convert_call_id(converted["tool_call_id"])
    return converted
