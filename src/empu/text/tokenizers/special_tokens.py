"""Special tokens as they are spelled: finding them in text. Knows no vocabulary and no model."""

from __future__ import annotations

import re
from collections.abc import Mapping

ENDINGS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
)
"""Spellings with which the model families end a turn, a message or a text."""


def well_formed(text: str) -> str:
    """``text`` as UTF-8 can hold it: surrogate pairs become their character, a lone surrogate becomes U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Spellings:
    """Splits text at the spellings of special tokens; where two begin at one place, the longer one wins."""

    def __init__(self, special_tokens: Mapping[str, int]) -> None:
        self._ids = special_tokens
        longest_first = sorted((name for name in special_tokens if name), key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    def split(self, text: str) -> list[str | int]:
        """Runs of plain text, none empty, and the ids of the special tokens between them."""
        if self._pattern is None:
            return [text] if text else []
        pieces = self._pattern.split(text)
        return [self._ids[piece] if i % 2 else piece for i, piece in enumerate(pieces) if piece]


def ending_ids(special_tokens: Mapping[str, int]) -> frozenset[int]:
    """Ids of those special tokens that end an answer in some family."""
    return frozenset(special_tokens[name] for name in ENDINGS if name in special_tokens)
