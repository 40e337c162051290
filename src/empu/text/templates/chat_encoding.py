"""Messages -> token ids. Special tokens come from the template alone; their names in a message stay plain text.

A marker, a character that no message contains, is inserted into every name of a special token in a message. Then the
template is rendered. A name that is still intact was written by the template. At the end the marker is removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from empu.errors import TokenizerError
from empu.text.base import ChatEncoder, MarkerAwareTokenizer, Message, TextProcessor, Tokenizer
from empu.text.templates.jinja import check_messages, to_plain_json
from empu.text.templates.turns import merge_system_message
from empu.text.tokenizers.special_tokens import SpecialTokenSplitter, to_well_formed

_NONCHARACTERS = range(0xFDD0, 0xFDF0)
_PRIVATE = range(0xE000, 0xF900)


def encode_chat(
    processor: TextProcessor,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Return the token ids of a dialogue, as transformers' ``apply_chat_template`` does.

    Unlike there, names of special tokens in messages stay plain text, and a system message that the template refuses
    or drops begins the first user message. Raises :class:`~empu.errors.TemplateError` if the
    template fails and :class:`TokenizerError` for a model without one.
    """
    template, tokenizer = processor.template, processor.tokenizer
    if template is None:
        raise TokenizerError("This model has no chat template, so it cannot continue a dialogue; give it plain text.")
    if isinstance(template, ChatEncoder):
        return template.encode(tokenizer, messages, add_generation_prompt=add_generation_prompt, tools=tools)
    check_messages(messages)
    messages = merge_system_message(template, messages)
    messages, tools = _well_formed(to_plain_json(messages)), _well_formed(to_plain_json(tools))
    marker = _choose_marker(chain(_strings(messages), _strings(tools)))
    insert_marker = _MarkerInserter(_name_matcher(tuple(tokenizer.special_tokens)), marker)
    messages, tools = insert_marker(messages), insert_marker(tools)
    rendered = template.render(messages, add_generation_prompt=add_generation_prompt, tools=tools)
    if not insert_marker.was_needed:
        return tokenizer.encode(rendered, parse_special=True)
    rendered = _unescape_marker(rendered, marker)
    if isinstance(tokenizer, MarkerAwareTokenizer):
        return tokenizer.encode_with_marker(rendered, marker)
    return _encode_parts(tokenizer, rendered, marker)


class _SpecialTokenNames:
    """Patterns that find the names of a vocabulary's special tokens, and parts of them, in messages."""

    def __init__(self, special_tokens: Sequence[str]) -> None:
        names = sorted((name for name in special_tokens if len(name) > 1), key=len, reverse=True)
        first_chars = "|".join(map(re.escape, sorted({name[0] for name in names}))) or "(?!)"
        self.first_char = re.compile(first_chars, re.IGNORECASE)
        self.name = re.compile("|".join(map(re.escape, names)) or "(?!)", re.IGNORECASE)
        self.prefixes = {name[:i].lower() for name in names for i in range(1, len(name))}
        self.suffixes = {name[i:].lower() for name in names for i in range(1, len(name))}
        self.max_length = max(map(len, names), default=0)


_name_matcher = lru_cache(maxsize=8)(_SpecialTokenNames)


class _MarkerInserter:
    """Inserts the marker into the strings of a JSON value.

    It goes into every name of a special token, in upper or lower case. It also goes to the start or end of a string
    that looks like part of such a name, which adjacent text could complete.
    """

    def __init__(self, names: _SpecialTokenNames, marker: str) -> None:
        self._names = names
        self._marker = marker
        self.was_needed = False

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            marked = self._mark(value)
            self.was_needed = self.was_needed or marked != value
            return marked
        if isinstance(value, dict):
            return {self(key): self(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self(item) for item in value]
        return value

    def _mark(self, text: str) -> str:
        names = self._names
        positions: set[int] = set()
        for start in names.first_char.finditer(text):
            if match := names.name.match(text, start.start()):
                positions.update(range(match.start() + 1, match.end()))
        for length in range(1, min(len(text), names.max_length) + 1):
            if text[-length:].lower() in names.prefixes:
                positions.add(len(text))
            if length > 1 and text[:length].lower() in names.suffixes:
                positions.add(0)
        if not positions:
            return text
        ordered = sorted(positions)
        return self._marker.join(text[a:b] for a, b in zip([0, *ordered], [*ordered, len(text)], strict=True))


def _encode_parts(tokenizer: Tokenizer, rendered: str, marker: str) -> list[int]:
    """Encode for tokenizers that know only plain text between special tokens."""
    ids: list[int] = []
    for part in SpecialTokenSplitter(tokenizer.special_tokens).split(rendered):
        ids += [part] if isinstance(part, int) else tokenizer.encode(part.replace(marker, ""))
    return ids


def _choose_marker(strings: Iterator[str]) -> str:
    """Return a character that occurs in none of the strings, neither as itself nor escaped."""
    text = "\0".join(strings)
    for code in chain(_NONCHARACTERS, _PRIVATE):
        marker = chr(code)
        if not any(form in text for form in (marker, *_escapes(marker))):
            return marker
    raise TokenizerError("A message contains every character that could serve as a marker; shorten it.")


def _escapes(marker: str) -> tuple[str, str]:
    """Return the marker as escaped in ASCII JSON and in URLs."""
    return f"\\u{ord(marker):04x}", "".join(f"%{byte:02X}" for byte in marker.encode("utf-8"))


def _unescape_marker(rendered: str, marker: str) -> str:
    for escape in _escapes(marker):
        rendered = rendered.replace(escape, marker)
    return rendered


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in chain(value.keys(), value.values()):
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _well_formed(value: Any) -> Any:
    if isinstance(value, str):
        return to_well_formed(value)
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    return value
