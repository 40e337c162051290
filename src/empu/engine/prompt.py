"""From a prompt to token ids that fit the context: whole, refused with both numbers, or cut when that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empu.errors import PromptTooLongError, UsageError
from empu.text.base import Message, Text
from empu.text.templates.chat_encoding import encode_chat
from empu.text.templates.jinja import check_messages

MOST_CHARACTERS = 10_000_000
"""Of a dialogue: more than any context holds, and less than a template may make of it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, at least one, and how many tokens were cut to make them fit."""

    ids: list[int]
    dropped: int = 0


def encode_prompt(
    text: Text,
    prompt: str | Sequence[Message],
    *,
    limit: int,
    truncate: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Prompt:
    """Ids of a plain text or of messages, at most ``limit``.

    With ``truncate`` a plain text loses its oldest tokens; a dialogue loses its oldest turns (never the system message
    or the last turn) and, where that is not enough, the beginning of its last turn. Raises
    :class:`~empu.errors.PromptTooLongError` otherwise.
    """
    if isinstance(prompt, str):
        ids = text.tokenizer.encode(prompt, add_bos=text.add_bos)
        if not ids:
            raise UsageError("The prompt is empty, and this model begins with no token of its own; give some text.")
        if len(ids) <= limit:
            return Prompt(ids)
        if not truncate:
            raise PromptTooLongError(len(ids), limit)
        head = 1 if text.add_bos else 0
        return Prompt(ids[:head] + ids[len(ids) - limit + head :], len(ids) - limit)
    if text.template is None:
        raise UsageError("This model has no chat template: it continues text and knows no turns; give a plain text.")
    messages = list(prompt)
    check_messages(messages)
    characters = sum(len(content) for message in messages if isinstance(content := message.get("content"), str))
    if characters > MOST_CHARACTERS:
        raise UsageError(f"The prompt has {characters:,} characters; at most {MOST_CHARACTERS:,} are read: shorten it.")
    ids = encode_chat(text, messages, tools=tools)
    whole = len(ids)
    if whole > limit and not truncate:
        raise PromptTooLongError(whole, limit)
    while len(ids) > limit:
        shorter = _without_oldest_turn(messages) or _with_shorter_last_turn(text, messages, len(ids) - limit)
        if shorter is None:
            hint = "no part that may be left out makes it fit: use a larger --context, or a shorter system message"
            raise PromptTooLongError(whole, limit, hint)
        messages = shorter
        ids = encode_chat(text, messages, tools=tools)
    return Prompt(ids, whole - len(ids))


def _without_oldest_turn(messages: list[Message]) -> list[Message] | None:
    """Without the first user's turn and what answered it; ``None`` when only one turn is left."""
    turns = [i for i, message in enumerate(messages) if message.get("role") == "user"]
    if len(turns) < 2:
        return None
    return messages[: turns[0]] + messages[turns[1] :]


def _with_shorter_last_turn(text: Text, messages: list[Message], excess: int) -> list[Message] | None:
    """The last message without the first ``excess`` tokens of its text; ``None`` when nothing is left of it."""
    content = messages[-1].get("content")
    if not isinstance(content, str):
        return None
    ids = text.tokenizer.encode(content)
    kept = text.tokenizer.decode(ids[excess:]).lstrip("�")
    if not kept or len(kept) >= len(content):
        return None
    return [*messages[:-1], {**messages[-1], "content": kept}]
