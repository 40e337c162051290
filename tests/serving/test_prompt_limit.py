"""Prompts that are far too long are refused without tokenizing all of them."""

from __future__ import annotations

import pytest

from empu.errors import PromptTooLongError
from empu.serving.prompt_limit import SLICE_CHARACTERS, check_prompt_length
from tests.engine.byte_tokenizer import ByteTokenizer


class CountingTokenizer(ByteTokenizer):
    num_characters = 0

    def encode(self, text: str, *, add_bos: bool = False, parse_special: bool = False) -> list[int]:
        self.num_characters += len(text)
        return super().encode(text, add_bos=add_bos, parse_special=parse_special)


def test_a_prompt_far_above_the_limit_is_tokenized_in_part_only() -> None:
    tokenizer = CountingTokenizer()
    with pytest.raises(PromptTooLongError, match=r"4,000,004 characters, which are more than 1,000 tokens"):
        check_prompt_length(tokenizer, [{"role": "user", "content": "x" * 4_000_000}], None, 1000)
    assert tokenizer.num_characters <= 2 * SLICE_CHARACTERS


def test_a_prompt_of_usual_length_is_left_to_the_tokenizer() -> None:
    tokenizer = CountingTokenizer()
    check_prompt_length(tokenizer, "x" * 4000, [{"name": "f"}], 1001)
    assert tokenizer.num_characters == 0


def test_tools_count_too() -> None:
    with pytest.raises(PromptTooLongError):
        check_prompt_length(CountingTokenizer(), "x", [{"description": "x" * 8000}], 1000)
