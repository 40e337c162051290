"""Messages -> token ids. Special tokens come from the template alone: what a message spells stays letters.

A marker, a character that no string holds, is put between the letters of every special token that a message spells.
The template is rendered; what spells a special token then was written by the template. At the end the marker vanishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from empu.errors import TokenizerError
from empu.text.base import DialogueFormat, MarkedEncoder, Message, Text, Tokenizer
from empu.text.templates.jinja import plain
from empu.text.tokenizers.special_tokens import Spellings, well_formed

_NONCHARACTERS = range(0xFDD0, 0xFDF0)
_PRIVATE = range(0xE000, 0xF900)


def encode_chat(
    text: Text,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Token ids of a dialogue. For messages that spell no special token they equal transformers'
    ``apply_chat_template``.

    Raises :class:`~empu.errors.TemplateError` where the template fails and :class:`TokenizerError` for a model without
    one.
    """
    template, tokenizer = text.template, text.tokenizer
    if template is None:
        raise TokenizerError("This model has no chat template, so it knows no turns; give it a plain text.")
    if isinstance(template, DialogueFormat):
        return template.encode(tokenizer, messages, add_generation_prompt=add_generation_prompt, tools=tools)
    turns, offered = _well_formed(plain(messages)), _well_formed(plain(tools))
    marker = _choose_marker(chain(_strings(turns), _strings(offered)))
    breaking = _Breaker(_spelled(tuple(tokenizer.special_tokens)), marker)
    turns, offered = breaking(turns), breaking(offered)
    rendered = template.render(turns, add_generation_prompt=add_generation_prompt, tools=offered)
    if not breaking.used:
        return tokenizer.encode(rendered, parse_special=True)
    rendered = _unescape(rendered, marker)
    if isinstance(tokenizer, MarkedEncoder):
        return tokenizer.encode_marked(rendered, marker)
    return _encode_pieces(tokenizer, rendered, marker)


class _Spelled:
    """What is looked for in messages, for a vocabulary's special tokens."""

    def __init__(self, special_tokens: Sequence[str]) -> None:
        names = sorted((name for name in special_tokens if len(name) > 1), key=len, reverse=True)
        firsts = "|".join(map(re.escape, sorted({name[0] for name in names}))) or "(?!)"
        self.first = re.compile(firsts, re.IGNORECASE)
        self.whole = re.compile("|".join(map(re.escape, names)) or "(?!)", re.IGNORECASE)
        self.heads = {name[:i].lower() for name in names for i in range(1, len(name))}
        self.tails = {name[i:].lower() for name in names for i in range(1, len(name))}
        self.longest = max(map(len, names), default=0)


_spelled = lru_cache(maxsize=8)(_Spelled)


class _Breaker:
    """Puts the marker into the strings of a JSON value: into every special token spelled there, in whatever case, and
    where a string begins or ends like a part of one that its neighbours could complete.
    """

    def __init__(self, spelled: _Spelled, marker: str) -> None:
        self._spelled = spelled
        self._marker = marker
        self.used = False

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            broken = self._break(value)
            self.used = self.used or broken != value
            return broken
        if isinstance(value, dict):
            return {self(key): self(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self(item) for item in value]
        return value

    def _break(self, text: str) -> str:
        spelled = self._spelled
        cuts: set[int] = set()
        for first in spelled.first.finditer(text):
            if match := spelled.whole.match(text, first.start()):
                cuts.update(range(match.start() + 1, match.end()))
        for length in range(1, min(len(text), spelled.longest) + 1):
            if text[-length:].lower() in spelled.heads:
                cuts.add(len(text))
            if length > 1 and text[:length].lower() in spelled.tails:
                cuts.add(0)
        if not cuts:
            return text
        places = sorted(cuts)
        return self._marker.join(text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True))


def _encode_pieces(tokenizer: Tokenizer, rendered: str, marker: str) -> list[int]:
    """For tokenizers that know only plain text between special tokens."""
    ids: list[int] = []
    for piece in Spellings(tokenizer.special_tokens).split(rendered):
        ids += [piece] if isinstance(piece, int) else tokenizer.encode(piece.replace(marker, ""))
    return ids


def _choose_marker(strings: Iterator[str]) -> str:
    """A character that stands in none of the strings, neither as itself nor written as an escape."""
    seen = "\0".join(strings)
    for code in chain(_NONCHARACTERS, _PRIVATE):
        marker = chr(code)
        if not any(form in seen for form in (marker, *_escapes(marker))):
            return marker
    raise TokenizerError("A message holds every character that could mark its borders; shorten it.")


def _escapes(marker: str) -> tuple[str, str]:
    """How JSON in ASCII and URLs write the marker."""
    return f"\\u{ord(marker):04x}", "".join(f"%{byte:02X}" for byte in marker.encode("utf-8"))


def _unescape(rendered: str, marker: str) -> str:
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
        return well_formed(value)
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    return value
