"""Streamed text consists of complete characters and equals the decoding of all tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empu.text.base import TextProcessor, Tokenizer
from empu.text.tokenizers.sentencepiece import SentencePieceTokenizer
from empu.text.tokenizers.stream_decoder import StreamDecoder
from tests.text.corpus import EMOJI, strings
from tests.text.sentencepiece_model import train_sentencepiece


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*map(decoder.feed, ids), decoder.flush()]


@pytest.fixture(scope="module")
def pieces() -> SentencePieceTokenizer:
    return SentencePieceTokenizer(train_sentencepiece(), "test")


def test_streamed_text_equals_decoding(default_processor: TextProcessor, pieces: SentencePieceTokenizer) -> None:
    for tokenizer in (default_processor.tokenizer, pieces):
        for text in strings()[::3]:
            ids = tokenizer.encode(text)
            parts = stream(tokenizer, ids)
            assert "".join(parts) == tokenizer.decode(ids)
            if "\ufffd" not in tokenizer.decode(ids):
                assert not any("\ufffd" in part for part in parts)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 479), max_size=30))
def test_any_streamed_tokens_equal_decoding(
    ids: list[int], default_processor: TextProcessor, pieces: SentencePieceTokenizer
) -> None:
    for tokenizer in (default_processor.tokenizer, pieces):
        assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_character_appears_with_its_last_byte(default_processor: TextProcessor) -> None:
    tokenizer = default_processor.tokenizer
    for text in EMOJI:
        ids = tokenizer.encode(text)
        prefixes = ["".join(stream(tokenizer, ids)[: i + 1]) for i in range(len(ids))]
        assert all(text.startswith(part) for part in prefixes)
        assert all(len(a) <= len(b) for a, b in pairwise(prefixes))
        assert prefixes[-1] == text


def test_an_incomplete_character_becomes_a_replacement(default_processor: TextProcessor) -> None:
    tokenizer = default_processor.tokenizer
    ids = tokenizer.encode("😀")
    assert stream(tokenizer, ids[:-1]) == [""] * (len(ids) - 1) + ["\ufffd"]


def test_the_leading_space_is_dropped_once(pieces: SentencePieceTokenizer) -> None:
    word = pieces.encode("dan")
    assert "".join(stream(pieces, [1, *word, *word])) == "dan dan" == pieces.decode([1, *word, *word])


def test_decoder_can_be_used_again_after_flushing(
    default_processor: TextProcessor, pieces: SentencePieceTokenizer
) -> None:
    for tokenizer in (default_processor.tokenizer, pieces):
        decoder = StreamDecoder(tokenizer)
        ids = tokenizer.encode("dan 😀")
        for _ in range(2):
            assert "".join([*map(decoder.feed, ids[:-1]), decoder.flush()]) == tokenizer.decode(ids[:-1])
