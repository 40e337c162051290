"""Refuses a prompt that is far too long before the whole of it is tokenized, which would take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from empu.errors import EmpuError, PromptTooLongError
from empu.text.base import Message, Tokenizer

USUAL_CHARACTERS_PER_TOKEN = 4
"""A prompt of fewer characters for each token of the limit is tokenized at once."""
SLICE_CHARACTERS = 16_384
EXTRA_TOKENS_PER_SLICE = 4
"""More tokens than a cut between two slices can add."""


class PromptFarTooLongError(PromptTooLongError):
    """A prompt whose tokens were not all counted."""

    def __init__(self, num_characters: int, limit: int) -> None:
        self.prompt_tokens = limit + 1
        self.limit = limit
        message = f"The prompt has {num_characters:,} characters, which are more than {limit:,} tokens; shorten it."
        EmpuError.__init__(self, message)


def check_prompt_length(
    tokenizer: Tokenizer, prompt: str | Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, limit: int
) -> None:
    """Raise :class:`PromptFarTooLongError` if the texts of the prompt alone have more than ``limit`` tokens."""
    texts = list(_texts(prompt)) + list(_texts(tools))
    num_characters = sum(map(len, texts))
    if num_characters <= USUAL_CHARACTERS_PER_TOKEN * limit:
        return
    num_tokens = 0
    for text in texts:
        for start in range(0, len(text), SLICE_CHARACTERS):
            num_slice_tokens = len(tokenizer.encode(text[start : start + SLICE_CHARACTERS]))
            num_tokens += max(0, num_slice_tokens - EXTRA_TOKENS_PER_SLICE)
            if num_tokens > limit:
                raise PromptFarTooLongError(num_characters, limit)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)
