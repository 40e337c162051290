"""Validates the tools, the choice and the calls of a request; every chat interface uses it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from empu.serving.errors import RequestError
from empu.serving.tools.types import Tool, ToolChoice, ToolSet


def make_tool(name: str, description: str | None, parameters: Mapping[str, Any] | None) -> Tool:
    """Return a tool. Raises :class:`RequestError` if its arguments are not of type object."""
    schema = {"type": "object", **(parameters or {"properties": {}, "additionalProperties": False})}
    if schema["type"] != "object":
        message = f'tools: the schema of {name} must have the type "object".'
        raise RequestError(400, message, param="tools", code="schema")
    return Tool(name, description, schema)


def make_tool_set(tools: Sequence[Tool], mode: str, name: str | None, parallel: bool | None) -> ToolSet:
    """Return the tools and the tool choice of a request.

    ``mode`` is ``auto``, ``required`` or ``none`` (no tools at all); ``name`` is the tool that must be called.
    Raises :class:`RequestError` for duplicate names and for a choice without its tool.
    """
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise RequestError(400, "tools: two tools have the same name.", param="tools", code="invalid_value")
    if mode == "none":
        return ToolSet()
    if name is not None and name not in names:
        message = f"tool_choice names {name}, which is not among the tools."
        raise RequestError(400, message, param="tool_choice", code="invalid_value")
    if mode == "required" and not tools:
        raise RequestError(400, "tool_choice needs tools.", param="tool_choice", code="invalid_value")
    return ToolSet(list(tools), ToolChoice(mode == "required", name, parallel is not False))


def make_tool_call(call_id: str, name: str, arguments: str, param: str) -> dict[str, Any]:
    """Return a call of the history in the form that chat templates expect.

    Raises :class:`RequestError` naming ``param`` if the arguments are not a JSON object.
    """
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        message = f"{param}: the arguments of a call of {name} are not a JSON object."
        raise RequestError(400, message, param=param, code="invalid_value")
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": value}}
