"""Prompts as token ids that fit the context. A prompt that is too long is refused, or truncated if that is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empu.errors import PromptTooLongError, UsageError
from empu.text.base import Message, TextProcessor
from empu.text.templates.chat_encoding import encode_chat
from empu.text.templates.jinja import check_messages

MAX_MESSAGE_CHARACTERS = 10_000_000
"""Limit on all messages together: more than any context holds, and less than a template's output may have."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """At least one token id, and how many tokens truncation dropped."""

    ids: list[int]
    dropped_tokens: int = 0


def prepare_prompt(
    text: TextProcessor,
    prompt: str | Sequence[Message],
    *,
    limit: int,
    truncate: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> EncodedPrompt:
    """Encode a plain text or messages to at most ``limit`` token ids.

    With ``truncate``, a plain text loses its oldest tokens. Messages lose the oldest turns, but never the system
    message or the last turn; where that is not enough, the last turn loses its beginning. Without it, a prompt that is
    too long raises :class:`~empu.errors.PromptTooLongError`.
    """
    if isinstance(prompt, str):
        return _prepare_text(text, prompt, limit, truncate)
    if text.template is None:
        raise UsageError("This model has no chat template, so it cannot read messages; give plain text to continue.")
    messages = list(prompt)
    check_messages(messages)
    characters = sum(len(content) for message in messages if isinstance(content := message.get("content"), str))
    if characters > MAX_MESSAGE_CHARACTERS:
        raise UsageError(
            f"The prompt has {characters:,} characters; the limit is {MAX_MESSAGE_CHARACTERS:,}: shorten it."
        )
    ids = encode_chat(text, messages, tools=tools)
    num_tokens = len(ids)
    if num_tokens > limit and not truncate:
        raise PromptTooLongError(num_tokens, limit)
    while len(ids) > limit:
        shorter = _without_oldest_turn(messages) or _with_shorter_last_turn(text, messages, len(ids) - limit)
        if shorter is None:
            hint = "truncation cannot make it fit: use a larger --context, or a shorter system message"
            raise PromptTooLongError(num_tokens, limit, hint)
        messages = shorter
        ids = encode_chat(text, messages, tools=tools)
    return EncodedPrompt(ids, num_tokens - len(ids))


def _prepare_text(text: TextProcessor, prompt: str, limit: int, truncate: bool) -> EncodedPrompt:
    ids = text.tokenizer.encode(prompt, add_bos=text.add_bos)
    if not ids:
        raise UsageError("The prompt is empty, and this model has no token that begins a text; give some text.")
    if len(ids) <= limit:
        return EncodedPrompt(ids)
    if not truncate:
        raise PromptTooLongError(len(ids), limit)
    num_bos = 1 if text.add_bos else 0
    return EncodedPrompt(ids[:num_bos] + ids[len(ids) - limit + num_bos :], len(ids) - limit)


def _without_oldest_turn(messages: list[Message]) -> list[Message] | None:
    """Remove the first user message and its answers. Return ``None`` when only one turn is left."""
    turns = [i for i, message in enumerate(messages) if message.get("role") == "user"]
    if len(turns) < 2:
        return None
    return messages[: turns[0]] + messages[turns[1] :]


def _with_shorter_last_turn(text: TextProcessor, messages: list[Message], excess: int) -> list[Message] | None:
    """Remove the first ``excess`` tokens of the last message. Return ``None`` when nothing of it is left."""
    content = messages[-1].get("content")
    if not isinstance(content, str):
        return None
    ids = text.tokenizer.encode(content)
    rest = text.tokenizer.decode(ids[excess:]).lstrip("�")
    if not rest or len(rest) >= len(content):
        return None
    return [*messages[:-1], {**messages[-1], "content": rest}]
