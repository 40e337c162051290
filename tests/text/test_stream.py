"""Streamed text is whole characters, and together the text of all tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empu.text.base import Text, Tokenizer
from empu.text.tokenizers.sentencepiece import SentencePieceTokenizer
from empu.text.tokenizers.stream_decoder import StreamDecoder
from tests.text.corpus import EMOJI, strings
from tests.text.test_gguf import trained_model


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*map(decoder.feed, ids), decoder.flush()]


@pytest.fixture(scope="module")
def pieces() -> SentencePieceTokenizer:
    return SentencePieceTokenizer(trained_model(), "test")


def test_streams_of_text_are_the_text(default_text: Text, pieces: SentencePieceTokenizer) -> None:
    for tokenizer in (default_text.tokenizer, pieces):
        for text in strings()[::3]:
            ids = tokenizer.encode(text)
            parts = streamed(tokenizer, ids)
            assert "".join(parts) == tokenizer.decode(ids)
            if "\ufffd" not in tokenizer.decode(ids):
                assert not any("\ufffd" in part for part in parts)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 479), max_size=30))
def test_streams_of_any_tokens_equal_decoding(
    ids: list[int], default_text: Text, pieces: SentencePieceTokenizer
) -> None:
    for tokenizer in (default_text.tokenizer, pieces):
        assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


def test_character_is_shown_when_its_last_byte_is_there(default_text: Text) -> None:
    tokenizer = default_text.tokenizer
    for text in EMOJI:
        ids = tokenizer.encode(text)
        shown = ["".join(streamed(tokenizer, ids)[: i + 1]) for i in range(len(ids))]
        assert all(text.startswith(part) for part in shown)
        assert all(len(a) <= len(b) for a, b in pairwise(shown))
        assert shown[-1] == text


def test_broken_character_ends_as_replacement(default_text: Text) -> None:
    tokenizer = default_text.tokenizer
    ids = tokenizer.encode("😀")
    assert streamed(tokenizer, ids[:-1]) == [""] * (len(ids) - 1) + ["\ufffd"]


def test_first_space_of_pieces_is_dropped_once(pieces: SentencePieceTokenizer) -> None:
    word = pieces.encode("dan")
    assert "".join(streamed(pieces, [1, *word, *word])) == "dan dan" == pieces.decode([1, *word, *word])


def test_decoder_can_be_used_again_after_flushing(default_text: Text, pieces: SentencePieceTokenizer) -> None:
    for tokenizer in (default_text.tokenizer, pieces):
        decoder = StreamDecoder(tokenizer)
        ids = tokenizer.encode("dan 😀")
        for _ in range(2):
            assert "".join([*map(decoder.feed, ids[:-1]), decoder.flush()]) == tokenizer.decode(ids[:-1])
