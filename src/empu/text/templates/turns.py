"""What a chat template does with turns, found by rendering it: the end of an answer, and the system message."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from empu.errors import ConfigError, TemplateError
from empu.text.base import ChatTemplate, Message, TextProcessor
from empu.text.tokenizers.special_tokens import SpecialTokenSplitter, known_end_of_turn_id

_MARKER = "empumarker"
"""A text that no template contains."""
SEPARATOR = "\n\n"
"""Between a system message and the first user message that it is merged into."""


def end_of_turn_id(processor: TextProcessor) -> int:
    """Return the token with which the model ends its own answers: the one that its template writes behind an answer.

    Without a template, or where it writes none, the known end tokens are tried by name. Raises
    :class:`~empu.errors.ConfigError` if there is none.
    """
    special_tokens = processor.tokenizer.special_tokens
    if processor.template is not None:
        name = _text_behind_answer(processor.template).lstrip()
        parts = SpecialTokenSplitter(special_tokens).split(name)
        if parts and isinstance(parts[0], int):
            return parts[0]
    token = known_end_of_turn_id(processor.tokenizer)
    if token is None:
        raise ConfigError("The model has no token that ends an answer, so it cannot be tuned to give one.")
    return token


def merge_system_message(template: ChatTemplate, messages: Sequence[Message]) -> list[Message]:
    """Return the messages as the template takes them.

    Some templates refuse or drop system messages. For them the first message of the system becomes the beginning of
    the first message of the user.
    """
    if len(messages) < 2 or messages[0].get("role") != "system" or messages[1].get("role") != "user":
        return list(messages)
    if takes_system_message(template):
        return list(messages)
    system, first, *others = messages
    return [{**first, "content": _joined(system.get("content"), first.get("content"))}, *others]


@lru_cache(maxsize=16)  # by identity
def takes_system_message(template: ChatTemplate) -> bool:
    """Return whether the template writes a system message. One that fails also without one counts as if it did."""
    question = {"role": "user", "content": "a"}
    try:
        return _MARKER in template.render([{"role": "system", "content": _MARKER}, question])
    except TemplateError:
        pass
    try:
        template.render([question])
    except TemplateError:
        return True  # nothing is known; the error of the real dialogue says more
    return False


@lru_cache(maxsize=16)
def _text_behind_answer(template: ChatTemplate) -> str:
    dialogue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARKER}]
    try:
        rendered = template.render(dialogue, add_generation_prompt=False)
    except TemplateError:
        return ""
    _, marker, rest = rendered.rpartition(_MARKER)
    return rest if marker else ""


def _joined(system: Any, content: Any) -> Any:
    if isinstance(system, list):
        system = "".join(str(part.get("text", "")) for part in system if isinstance(part, dict))
    if not system:
        return content
    if isinstance(content, list):
        return [{"type": "text", "text": f"{system}{SEPARATOR}"}, *content]
    return f"{system}{SEPARATOR}{content or ''}"
