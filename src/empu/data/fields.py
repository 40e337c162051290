"""From a record's cells to a row's fields, or to the reason why there is no row in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from empu.data.rows import Kind

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""How others name the speakers -> how we do."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class UnusableError(ValueError):
    """A record that gives no row; the message is the reason."""


def build(kind: Kind, columns: Mapping[str, str], values: Mapping[str, Any], exact: bool = True) -> dict[str, Any]:
    """The fields of a row. ``columns`` says which column is which field; ``exact`` is false where the decoder put
    U+FFFD for what it could not read. Raises :class:`UnusableError`.
    """
    fields: dict[str, Any] = {}
    for name, column in columns.items():
        if name == "context":
            continue
        value = values.get(column)
        if name == "messages" or (name in ("chosen", "rejected") and messages_in(value) is not None):
            fields[name] = _messages(value, name)
        elif name == "label":
            fields[name] = _text(value, name).strip()
        else:
            fields[name] = _text(value, name)
    if kind is Kind.COMPLETION and str(values.get(columns.get("context", "")) or "").strip():
        fields["prompt"] = f"{fields['prompt']}\n\n{_text(values[columns['context']], 'input')}"
    if kind is Kind.PREFERENCE and fields["chosen"] == fields["rejected"]:
        raise UnusableError("chosen and rejected are the same")
    _check_characters(fields, exact)
    return fields


def _text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list) and name in ("completion", "chosen", "rejected"):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableError(f"the {name} is {value}, which is no number")
    if isinstance(value, int | float):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableError(f"the {name} is empty")
    if not isinstance(value, str):
        raise UnusableError(f"the {name} is {'a list' if isinstance(value, list) else 'an object'} and not a text")
    return value


def messages_in(value: Any) -> list[Any] | None:
    """The list of messages that a cell holds, spelt as JSON or not; ``None`` when it holds none."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        keys = set(value[0])
        if {"role", "content"} <= keys or {"from", "value"} <= keys:
            return value
    return None


def _messages(value: Any, name: str) -> list[dict[str, Any]]:
    """Role and content of each, and ``weight`` 0 (as in OpenAI's files) where an answer is not to be learnt."""
    found = messages_in(value)
    if found is None:
        raise UnusableError(f"{name} is not a list of messages with role and content")
    messages: list[dict[str, Any]] = []
    for number, one in enumerate(found, 1):
        role = ROLES.get(str(one.get("role", one.get("from"))).casefold())
        content = one.get("content", one.get("value"))
        if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            content = "\n".join(str(part.get("text", "")) for part in content)
        if role is None:
            raise UnusableError(f"message {number} has the unknown role {one.get('role', one.get('from'))!r}")
        if not isinstance(content, str) or not content.strip():
            raise UnusableError(f"message {number} has no text")
        if one.get("weight") not in (None, 0, 1):
            raise UnusableError(f"message {number} has the weight {one['weight']!r}, which is neither 0 nor 1")
        unlearnt = role == "assistant" and one.get("weight") == 0
        messages.append({"role": role, "content": content} | ({"weight": 0} if unlearnt else {}))
    if messages[-1]["role"] != "assistant":
        raise UnusableError("the last message is not the assistant's")
    while messages and (messages[-1]["role"] != "assistant" or "weight" in messages[-1]):
        messages.pop()
    if not messages:
        raise UnusableError("all of the assistant's messages have the weight 0")
    if len(messages) == 1:
        raise UnusableError("nothing is asked before the assistant's message")
    return messages


def _check_characters(value: Any, exact: bool) -> None:
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise UnusableError("it holds bytes that are not text in the file's encoding")
        if not exact and "\ufffd" in value:
            raise UnusableError("it holds bytes that are not text in the file's encoding")
        if "\0" in value:
            raise UnusableError("it holds a NUL character")
    elif isinstance(value, dict):
        for inner in value.values():
            _check_characters(inner, exact)
    elif isinstance(value, list):
        for inner in value:
            _check_characters(inner, exact)
