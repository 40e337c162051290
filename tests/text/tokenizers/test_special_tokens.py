"""Special tokens by name: splitting text at them, and which of them end an answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from empu.text.tokenizers.special_tokens import SpecialTokenSplitter, end_token_ids, known_end_of_turn_id


def tokenizer(special_tokens: dict[str, int], declared: tuple[int, ...] = ()) -> Any:
    return SimpleNamespace(special_tokens=special_tokens, eos_ids=end_token_ids(special_tokens, declared))


def test_the_longer_name_wins_where_two_begin() -> None:
    splitter = SpecialTokenSplitter({"<a>": 1, "<a><b>": 2, "": 3})
    assert splitter.split("x<a>y<a><b><a>") == ["x", 1, "y", 2, 1]
    assert splitter.split("") == []
    assert SpecialTokenSplitter({}).split("<a>") == ["<a>"]


def test_end_tokens_are_known_by_name_or_declared() -> None:
    special_tokens = {"<|im_end|>": 5, "<|im_start|>": 6, "<|eom_id|>": 7, "</s>": 2}
    assert end_token_ids(special_tokens, [9]) == {2, 5, 7, 9}


def test_the_end_of_a_turn_is_preferred_to_the_end_of_a_text() -> None:
    assert known_end_of_turn_id(tokenizer({"<|endoftext|>": 0, "<|im_end|>": 2})) == 2
    assert known_end_of_turn_id(tokenizer({"<|end_of_text|>": 1, "<|eot_id|>": 9, "<|eom_id|>": 8})) == 9
    assert known_end_of_turn_id(tokenizer({}, declared=(7, 4))) == 4
    assert known_end_of_turn_id(tokenizer({"<pad>": 0})) is None
