"""GGUF vocabularies tokenize like the tokenizers that they were written from, token for token."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from transformers import PreTrainedTokenizerFast

from empu.errors import TokenizerError, UnsupportedError
from empu.text import load_text_processor
from empu.text.base import TextProcessor
from empu.text.tokenizers.gguf_bpe import PRE_TOKENIZERS, build_pre_tokenizer
from empu.text.tokenizers.hf_tokenizer import byte_alphabet
from tests.text.corpus import strings
from tests.text.gguf_metadata import gguf_metadata
from tests.text.sentencepiece_model import train_sentencepiece

FILE = Path("model.gguf")


def test_default_model_equals_its_published_tokenizer(
    default_processor: TextProcessor, default_reference: PreTrainedTokenizerFast
) -> None:
    corpus = strings()
    assert len(corpus) >= 10_000
    ours, theirs = default_processor.tokenizer, default_reference.backend_tokenizer
    for parse_special in (False, True):
        theirs.encode_special_tokens = not parse_special
        expected = [e.ids for e in theirs.encode_batch(list(corpus), add_special_tokens=False)]
        theirs.encode_special_tokens = False
        actual = [ours.encode(text, parse_special=parse_special) for text in corpus]
        different = [i for i in range(len(corpus)) if actual[i] != expected[i]]
        details = [(corpus[i], actual[i], expected[i]) for i in different[:1]]
        assert not different, f"{len(different)} differ, first {details}"


def test_bos_and_end_tokens_of_the_default_model(default_processor: TextProcessor) -> None:
    tokenizer = default_processor.tokenizer
    assert tokenizer.vocab_size == 49_152
    assert tokenizer.bos_id == 1
    assert {tokenizer.special_tokens[name] for name in ("<|endoftext|>", "<|im_end|>")} == tokenizer.eos_ids
    assert not default_processor.add_bos
    assert tokenizer.encode("a", add_bos=True)[0] == 1


def test_the_bytes_of_the_tokens_are_the_text(default_processor: TextProcessor) -> None:
    tokenizer = default_processor.tokenizer
    known_bytes = {data[0] for i in range(tokenizer.vocab_size) if len(data := tokenizer.token_bytes(i)) == 1}
    assert known_bytes >= set(range(0x20, 0x7F)) | set(range(0x80, 0xC0))
    for text in strings():
        ids = tokenizer.encode(text)
        # This vocabulary was trained without some control characters, so these have no token and are dropped.
        data = bytes(byte for byte in text.encode("utf-8") if byte in known_bytes)
        assert b"".join(map(tokenizer.token_bytes, ids)) == data
        assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


def test_every_token_has_the_bytes_that_the_reference_decodes(
    default_processor: TextProcessor, default_reference: PreTrainedTokenizerFast
) -> None:
    tokenizer = default_processor.tokenizer
    special = set(tokenizer.special_tokens.values())
    decoded = default_reference.backend_tokenizer.decode_batch([[i] for i in range(tokenizer.vocab_size)])
    for i, text in enumerate(decoded):
        assert tokenizer.token_bytes(i).decode("utf-8", "replace") == ("" if i in special else text)


def test_special_tokens_are_decoded_on_request(default_processor: TextProcessor) -> None:
    tokenizer = default_processor.tokenizer
    ids = [1, *tokenizer.encode("a"), 2]
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, keep_special=True) == "<|im_start|>a<|im_end|>"
    with pytest.raises(TokenizerError, match="49,152"):
        tokenizer.decode([49_152])


def test_lone_surrogates_become_replacement_characters(default_processor: TextProcessor) -> None:
    tokenizer = default_processor.tokenizer
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00")) == "😀"


def as_gguf(pieces: sentencepiece.SentencePieceProcessor, **extra: Any) -> dict[str, Any]:
    """Return the GGUF metadata of a SentencePiece model."""
    vocab_size = pieces.GetPieceSize()

    def token_type(i: int) -> int:
        if pieces.IdToPiece(i) in ("<tool>", "▁▁▁▁"):
            return 4
        tests = ((2, pieces.IsUnknown), (3, pieces.IsControl), (5, pieces.IsUnused), (6, pieces.IsByte))
        return next((number for number, test in tests if test(i)), 1)

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [pieces.IdToPiece(i) for i in range(vocab_size)],
        "tokenizer.ggml.scores": np.array([pieces.GetScore(i) for i in range(vocab_size)], dtype=np.float32),
        "tokenizer.ggml.token_type": np.array([token_type(i) for i in range(vocab_size)], dtype=np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **extra,
    }


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_vocabulary_equals_the_library(prefix: bool) -> None:
    model = train_sentencepiece(add_dummy_prefix=prefix)
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    text = load_text_processor("gguf", FILE, as_gguf(library, **{"tokenizer.ggml.add_space_prefix": prefix}))
    tokenizer = text.tokenizer
    assert text.add_bos
    assert tokenizer.eos_ids == {2, library.PieceToId("<|im_end|>")}
    for string in strings():
        ids = tokenizer.encode(string)
        assert ids == library.EncodeAsIds(string), repr(string)
        assert tokenizer.decode(ids) == library.DecodeIds(ids)
        data = b"".join(map(tokenizer.token_bytes, ids)).replace(b" ", "▁".encode())
        assert data == ("▁" * bool(prefix and string) + string.replace(" ", "▁")).encode()
    assert tokenizer.encode("a", add_bos=True) == [1, *library.EncodeAsIds("a")]
    assert tokenizer.encode("a</s>b", parse_special=True) == [
        *library.EncodeAsIds("a"),
        2,
        *library.EncodeAsIds("b"),
    ]
    assert tokenizer.token_bytes(library.PieceToId("<0x0A>")) == b"\n"
    assert tokenizer.token_bytes(1) == b""


def minimal_metadata(**changes: Any) -> dict[str, Any]:
    """Return the metadata of a byte-level vocabulary of three tokens, with changes (``None`` removes a key)."""
    fields: dict[str, Any] = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": ["a", "b", "ab"],
        "token_type": [1, 1, 1],
        "merges": ["a b"],
        "eos_token_id": 2,
    }
    fields |= changes
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "model is None; expected a string"),
        ({"model": "bert"}, "'bert' is not supported"),
        ({"pre": "martian"}, "'martian' is not one that Empu knows"),
        ({"tokens": None}, "tokens is None"),
        ({"tokens": []}, "0 tokens"),
        ({"tokens": ["a", "b", "b"]}, "'b' is in the vocabulary twice"),
        ({"tokens": ["a", 1, "ab"]}, "expected only strings"),
        ({"merges": ["a c"]}, "merges do not fit"),
        ({"merges": ["ab"]}, "merges do not fit"),
        ({"merges": 7}, "merges is 7"),
        ({"token_type": [1]}, "3 numbers"),
        ({"token_type": ["x", "y", "z"]}, "numbers"),
        ({"eos_token_id": 3}, "id below 3"),
        ({"bos_token_id": "x"}, "a token id"),
        ({"add_bos_token": "yes"}, "true or false"),
        ({"model": "llama"}, "scores"),
        ({"model": "llama", "scores": [0.0, 0.0, 0.0]}, "SentencePiece refuses"),
    ],
)
def test_broken_metadata_is_reported(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TokenizerError, UnsupportedError), match=message):
        load_text_processor("gguf", FILE, minimal_metadata(**changes))


def test_absent_ids_stay_absent() -> None:
    text = load_text_processor("gguf", FILE, minimal_metadata(bos_token_id=0xFFFFFFFF, add_bos_token=True))
    assert text.tokenizer.bos_id is None
    assert not text.add_bos
    assert text.template is None
    assert text.tokenizer.encode("abab") == [2, 2]


def test_the_default_model_has_the_tested_pre_tokenizer(default_gguf: Path) -> None:
    assert gguf_metadata(default_gguf)["tokenizer.ggml.pre"] == "smollm"


def test_patterns_equal_those_of_the_published_tokenizers() -> None:
    """Patterns that transformers has are equal, and GPT-2's splits like the library's own code."""
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    assert PRE_TOKENIZERS["qwen2"].patterns == (PRETOKENIZE_REGEX,)
    shared = [name for name in PRE_TOKENIZERS if name in GGUF_PRE_TOKENIZER_SPLITS]
    assert "tekken" in shared
    for name in shared:
        assert PRE_TOKENIZERS[name].patterns == (GGUF_PRE_TOKENIZER_SPLITS[name],)
    (pattern,) = PRE_TOKENIZERS["gpt-2"].patterns
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    ours = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    for text in strings():
        assert ours.pre_tokenize_str(text) == theirs.pre_tokenize_str(text), repr(text)


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_every_pre_tokenizer_is_lossless(pre: str) -> None:
    tokens = sorted(byte_alphabet(), key=lambda char: byte_alphabet()[char])
    metadata = minimal_metadata(pre=pre, tokens=[*tokens, "ab"], token_type=[1] * 257, eos_token_id=None)
    tokenizer = load_text_processor("gguf", FILE, metadata).tokenizer
    for text in strings()[::10]:
        composed = unicodedata.normalize("NFC", text) if PRE_TOKENIZERS[pre].nfc else text
        assert tokenizer.decode(tokenizer.encode(text)) == composed
    assert tokenizer.encode("ab") == [256]
    assert tokenizer.encode("a b") == [97, 32, 98]


def test_default_pre_tokenizer_splits_punctuation_and_digits() -> None:
    steps = build_pre_tokenizer(PRE_TOKENIZERS["default"])
    assert [piece for piece, _ in steps.pre_tokenize_str("ab, 12345 c")] == ["ab", ",", "Ġ", "123", "45", "Ġc"]
