"""Read conversations from cells: lists of messages in the forms in which people keep them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "agent": "assistant",
}
"""Role as files name it -> role of the chat template."""

TOOL_ROLES = frozenset({"tool", "function", "observation", "ipython", "function_call", "tool_call", "tool_response"})
CONTENT_KEYS = {
    "role": ("content", "value", "text", "parts"),
    "from": ("value", "content", "text"),
    "speaker": ("text", "content", "utterance", "value"),
}
"""Key of the role -> keys that may hold the content."""

TRAIN_FLAGS = frozenset({"train", "loss", "learn", "trainable"})
"""Keys of a message that say whether it is learnt, besides OpenAI's ``weight``."""
MASK_FLAGS = frozenset({"mask", "masked"})
"""Keys of a message that say that it is not learnt."""
KNOWN_KEYS = frozenset(
    {"role", "from", "speaker", "utterance", "content", "value", "text", "parts", "weight", *TRAIN_FLAGS, *MASK_FLAGS}
) | frozenset({"tool_calls", "function_call", "tool_call_id", "name", "id", "timestamp", "created_at", "type"})

MAX_LITERAL_CHARS = 1 << 20
_LOOKS_LIKE_MESSAGES = re.compile(r"""\s*\[?\s*\{\s*['"](?:role|from|content|value)['"]\s*:""")
_TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):[ \n]?")


class UnusableError(ValueError):
    """A record that is not a row; the message is the reason, ``category`` its short name."""

    def __init__(self, reason: str, category: str = "unreadable") -> None:
        super().__init__(reason)
        self.category = category


def find_messages(value: Any) -> list[Any] | None:
    """Return the messages in a cell, which may be JSON or a Python literal; ``None`` if it holds none."""
    if isinstance(value, str):
        value = _parse(value)
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return value
    return None


def looks_like_messages(text: str) -> bool:
    """Whether a text begins as a list of messages does, whether or not it can be read."""
    return bool(_LOOKS_LIKE_MESSAGES.match(text))


def _parse(text: str) -> Any:
    start = text.lstrip()[:1]
    if start not in ("[", "{") or not looks_like_messages(text):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip()) if len(text) <= MAX_LITERAL_CHARS else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    for role_key, content_keys in CONTENT_KEYS.items():
        if role_key in item and any(key in item for key in (*content_keys, "tool_calls", "function_call")):
            return True
    return False


def read_messages(value: Any, name: str) -> list[dict[str, Any]]:
    """Return the messages of a cell with ``role`` and ``content``, and ``weight`` 0 for answers not to be learnt.

    Raises :class:`UnusableError` for anything that is not text between system, user and assistant.
    """
    raw_messages = find_messages(value)
    if raw_messages is None:
        raise UnusableError(f"{name} is not a list of messages with role and content")
    return [_message(item, number) for number, item in enumerate(raw_messages, 1)]


def _message(item: Mapping[str, Any], number: int) -> dict[str, Any]:
    role_key = next(key for key in CONTENT_KEYS if key in item)
    role_name = str(item[role_key])
    role = ROLES.get(role_name.casefold())
    if role_name.casefold() in TOOL_ROLES or item.get("tool_calls") or item.get("function_call"):
        raise UnusableError(
            f"message {number} calls a tool or answers for one, which is not learnt yet; remove such rows, or write "
            "the call as text"
        )
    if role is None:
        raise UnusableError(f"message {number} has the unknown role {role_name!r}")
    content = next((item[key] for key in CONTENT_KEYS[role_key] if item.get(key) is not None), None)
    text = _content_text(content, number)
    if not text.strip():
        raise UnusableError(f"message {number} has no text")
    is_learnt = _is_learnt(item, number)
    return {"role": role, "content": text} | ({"weight": 0} if role == "assistant" and not is_learnt else {})


def _content_text(content: Any, number: int) -> str:
    """Return the text of a content: a string, or parts of text with or without a type."""
    if content is None:
        return ""
    if isinstance(content, str):
        return clean_text(content)
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        return "\n".join(_part_text(part, number) for part in content)
    raise UnusableError(f"message {number} has {type(content).__name__} where text is expected")


def _part_text(part: Any, number: int) -> str:
    if isinstance(part, str):
        return clean_text(part)
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind in (None, "text", "input_text", "output_text") and isinstance(part.get("text"), str):
        return clean_text(part["text"])
    kind = kind or ", ".join(part)
    raise UnusableError(f"message {number} has a part of the type {kind!r}, and only text is learnt")


def _is_learnt(item: Mapping[str, Any], number: int) -> bool:
    weight = item.get("weight")
    if weight not in (None, 0, 1):
        raise UnusableError(f"message {number} has the weight {weight!r}, which is neither 0 nor 1")
    is_learnt = weight != 0
    for key in item.keys() & (TRAIN_FLAGS | MASK_FLAGS):
        if item[key] is None:
            continue
        flag = as_bool(item[key])
        if flag is None:
            raise UnusableError(f"message {number} has {key} = {item[key]!r}, which is neither true nor false")
        is_learnt = is_learnt and flag != (key in MASK_FLAGS)
    return is_learnt


def as_bool(value: Any) -> bool | None:
    """Return a flag as a boolean, ``None`` for anything else."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().casefold()
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text)


def check_dialogue(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a dialogue up to its last answer that is learnt. Raises :class:`UnusableError` if there is none."""
    if not messages or messages[-1]["role"] != "assistant":
        raise UnusableError("the last message is not the assistant's")
    while messages and (messages[-1]["role"] != "assistant" or "weight" in messages[-1]):
        messages.pop()
    if not messages:
        raise UnusableError("all of the assistant's messages are marked as not to be learnt", "not to be learnt")
    if len(messages) == 1:
        raise UnusableError("nothing is asked before the assistant's message")
    return messages


def with_system(messages: list[dict[str, Any]], system: str) -> list[dict[str, Any]]:
    """Return messages that begin with a system message. Raises :class:`UnusableError` if they have another one."""
    if messages and messages[0]["role"] == "system":
        if system and messages[0]["content"].strip() != system.strip():
            raise UnusableError("it has a system message in its messages and another one in the column for it")
        return messages
    return [{"role": "system", "content": system}, *messages] if system else messages


def system_text(value: Any) -> str:
    """Return the system message in a cell: text, parts of text, or a message."""
    raw_messages = find_messages(value)
    if raw_messages is not None:
        return "\n".join(message["content"] for message in read_messages(raw_messages, "system"))
    return _content_text(value, 0).strip() if value is not None else ""


def history_messages(value: Any) -> list[dict[str, Any]]:
    """Return the turns in a cell: messages, or pairs of question and answer. Raises :class:`UnusableError`."""
    if value is None or value == "" or value == []:
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise UnusableError("the history is not a list of turns") from None
    if value == []:
        return []
    if find_messages(value) is not None:
        return read_messages(value, "history")
    if isinstance(value, list) and all(
        isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
        for turn in value
    ):
        roles = ("user", "assistant")
        return [
            {"role": role, "content": clean_text(text)}
            for turn in value
            for role, text in zip(roles, turn, strict=True)
        ]
    raise UnusableError("the history is neither a list of messages nor of pairs of question and answer")


def transcript_messages(text: str) -> list[dict[str, Any]] | None:
    """Return the turns of a text such as ``\\n\\nHuman: ...\\n\\nAssistant: ...``, ``None`` for any other text.

    A last turn of the assistant may be empty: it is the place of the answer.
    """
    if not text.startswith("\n\nHuman:"):
        return None
    parts = _TRANSCRIPT.split(text)[1:]
    if parts[-2:-1] == ["Assistant"] and not parts[-1].strip():
        del parts[-2:]
    roles = {"Human": "user", "Assistant": "assistant"}
    turns: Sequence[tuple[str, str]] = list(zip(parts[::2], parts[1::2], strict=True))
    if any(not content.strip() for _, content in turns):
        return None
    return [{"role": roles[speaker], "content": content.strip()} for speaker, content in turns]


def clean_text(text: str) -> str:
    """Replace the line ends and tabs that spreadsheet programs write as escapes."""
    if "_x000" not in text:
        return text
    for escape, char in (
        ("_x000D_\r\n", "\n"),
        ("_x000D_\n", "\n"),
        ("_x000D_", "\n"),
        ("_x000A_", "\n"),
        ("_x0009_", "\t"),
    ):
        text = text.replace(escape, char).replace(escape.replace("D_", "d_").replace("A_", "a_"), char)
    return text
