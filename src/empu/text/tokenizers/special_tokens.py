"""Special tokens by name: finding them in text, and which of them end an answer. Knows no vocabulary and no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from empu.text.base import Tokenizer

END_OF_TURN_TOKENS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
    "<|end_of_text|>",
    "<|endoftext|>",
)
"""Tokens with which the model families end a turn, preferred ones first; those that end a whole text come last."""
END_TOKENS = frozenset({*END_OF_TURN_TOKENS, "<|eom_id|>"})
"""All tokens that end an answer. ``<|eom_id|>`` ends a message that calls a tool."""


def end_token_ids(special_tokens: Mapping[str, int], declared: Iterable[int] = ()) -> frozenset[int]:
    """Return the ids that end an answer: the known end tokens by name, and those that the model's files declare."""
    return frozenset(declared).union(i for name, i in special_tokens.items() if name in END_TOKENS)


def known_end_of_turn_id(tokenizer: Tokenizer) -> int | None:
    """Return the end token that model families prefer for turns, by name; ``None`` if the tokenizer has none.

    What the chat template writes counts more: see :func:`empu.text.templates.turns.end_of_turn_id`.
    """
    for name in END_OF_TURN_TOKENS:
        if tokenizer.special_tokens.get(name) in tokenizer.eos_ids:
            return tokenizer.special_tokens[name]
    return min(tokenizer.eos_ids, default=None)


def to_well_formed(text: str) -> str:
    """Return ``text`` as UTF-8 can encode it: surrogate pairs become one character, lone surrogates U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class SpecialTokenSplitter:
    """Splits text at the names of special tokens. Where two begin at the same position, the longer one wins."""

    def __init__(self, special_tokens: Mapping[str, int]) -> None:
        self._ids = special_tokens
        longest_first = sorted((name for name in special_tokens if name), key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    def split(self, text: str) -> list[str | int]:
        """Return the non-empty plain texts and, between them, the ids of the special tokens."""
        if self._pattern is None:
            return [text] if text else []
        parts = self._pattern.split(text)
        return [self._ids[part] if i % 2 else part for i, part in enumerate(parts) if part]
