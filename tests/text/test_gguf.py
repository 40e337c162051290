"""GGUF vocabularies tokenize as the tokenizers that they were written from, token for token."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from transformers import PreTrainedTokenizerFast

from empu.errors import TokenizerError, UnsupportedError
from empu.text import load_text
from empu.text.base import Text
from empu.text.tokenizers.gguf_bpe import CUTTINGS, pre_tokenizer
from empu.text.tokenizers.hf_tokenizer import byte_alphabet
from tests.text.corpus import WORDS, strings
from tests.text.files import gguf_metadata

FILE = Path("model.gguf")


def test_default_model_equals_its_published_tokenizer(
    default_text: Text, default_reference: PreTrainedTokenizerFast
) -> None:
    corpus = strings()
    assert len(corpus) >= 10_000
    ours, theirs = default_text.tokenizer, default_reference.backend_tokenizer
    for parse_special in (False, True):
        theirs.encode_special_tokens = not parse_special
        expected = [e.ids for e in theirs.encode_batch(list(corpus), add_special_tokens=False)]
        theirs.encode_special_tokens = False
        got = [ours.encode(text, parse_special=parse_special) for text in corpus]
        wrong = [i for i in range(len(corpus)) if got[i] != expected[i]]
        assert not wrong, f"{len(wrong)} differ, first {corpus[wrong[0]]!r}: {got[wrong[0]]} != {expected[wrong[0]]}"


def test_default_model_says_how_answers_begin_and_end(default_text: Text) -> None:
    tokenizer = default_text.tokenizer
    assert tokenizer.vocab_size == 49_152
    assert tokenizer.bos_id == 1
    assert {tokenizer.special_tokens[name] for name in ("<|endoftext|>", "<|im_end|>")} == tokenizer.eos_ids
    assert not default_text.add_bos
    assert tokenizer.encode("a", add_bos=True)[0] == 1


def test_bytes_of_tokens_are_the_text(default_text: Text) -> None:
    tokenizer = default_text.tokenizer
    known = {data[0] for i in range(tokenizer.vocab_size) if len(data := tokenizer.token_bytes(i)) == 1}
    assert known >= set(range(0x20, 0x7F)) | set(range(0x80, 0xC0))
    for text in strings():
        ids = tokenizer.encode(text)
        # This vocabulary was trained without some control characters; they have no token and vanish.
        data = bytes(byte for byte in text.encode("utf-8") if byte in known)
        assert b"".join(map(tokenizer.token_bytes, ids)) == data
        assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


def test_every_token_has_the_bytes_that_the_reference_decodes(
    default_text: Text, default_reference: PreTrainedTokenizerFast
) -> None:
    tokenizer = default_text.tokenizer
    special = set(tokenizer.special_tokens.values())
    decoded = default_reference.backend_tokenizer.decode_batch([[i] for i in range(tokenizer.vocab_size)])
    for i, text in enumerate(decoded):
        assert tokenizer.token_bytes(i).decode("utf-8", "replace") == ("" if i in special else text)


def test_special_tokens_are_shown_only_when_asked(default_text: Text) -> None:
    tokenizer = default_text.tokenizer
    ids = [1, *tokenizer.encode("a"), 2]
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, keep_special=True) == "<|im_start|>a<|im_end|>"
    with pytest.raises(TokenizerError, match="49,152"):
        tokenizer.decode([49_152])


def test_lone_surrogates_become_replacement_characters(default_text: Text) -> None:
    tokenizer = default_text.tokenizer
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00")) == "😀"


def trained_model(*, add_dummy_prefix: bool = True) -> bytes:
    """A small SentencePiece BPE model with byte fallback, as Llama 2's is."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS[i % 40 :]) for i in range(200)]),
        model_writer=out,
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=add_dummy_prefix,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["<tool>", "▁▁▁▁"],
        control_symbols=["<|im_end|>"],
        num_threads=1,
        minloglevel=2,
    )
    return out.getvalue()


def as_gguf(pieces: sentencepiece.SentencePieceProcessor, **more: Any) -> dict[str, Any]:
    """What a GGUF writer makes of a SentencePiece model."""
    count = pieces.GetPieceSize()

    def kind(i: int) -> int:
        if pieces.IdToPiece(i) in ("<tool>", "▁▁▁▁"):
            return 4
        tests = ((2, pieces.IsUnknown), (3, pieces.IsControl), (5, pieces.IsUnused), (6, pieces.IsByte))
        return next((number for number, test in tests if test(i)), 1)

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [pieces.IdToPiece(i) for i in range(count)],
        "tokenizer.ggml.scores": np.array([pieces.GetScore(i) for i in range(count)], dtype=np.float32),
        "tokenizer.ggml.token_type": np.array([kind(i) for i in range(count)], dtype=np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **more,
    }


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_vocabulary_equals_the_library(prefix: bool) -> None:
    model = trained_model(add_dummy_prefix=prefix)
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    text = load_text("gguf", FILE, as_gguf(library, **{"tokenizer.ggml.add_space_prefix": prefix}))
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


def smallest(**changes: Any) -> dict[str, Any]:
    """A byte-level vocabulary of three tokens, with changes (``None`` removes)."""
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
        ({"model": None}, "model holds None"),
        ({"model": "bert"}, "'bert' is not supported"),
        ({"pre": "martian"}, "'martian' is not one that Empu knows"),
        ({"tokens": None}, "tokens holds None"),
        ({"tokens": []}, "0 tokens"),
        ({"tokens": ["a", "b", "b"]}, "'b' is in the vocabulary twice"),
        ({"tokens": ["a", 1, "ab"]}, "texts only"),
        ({"merges": ["a c"]}, "merges do not fit"),
        ({"merges": ["ab"]}, "merges do not fit"),
        ({"merges": 7}, "merges holds 7"),
        ({"token_type": [1]}, "3 numbers"),
        ({"token_type": ["x", "y", "z"]}, "numbers"),
        ({"eos_token_id": 3}, "id below 3"),
        ({"bos_token_id": "x"}, "a token id"),
        ({"add_bos_token": "yes"}, "true or false"),
        ({"model": "llama"}, "scores"),
        ({"model": "llama", "scores": [0.0, 0.0, 0.0]}, "SentencePiece refuses"),
    ],
)
def test_broken_metadata_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TokenizerError, UnsupportedError), match=message):
        load_text("gguf", FILE, smallest(**changes))


def test_absent_ids_stay_absent() -> None:
    text = load_text("gguf", FILE, smallest(bos_token_id=0xFFFFFFFF, add_bos_token=True))
    assert text.tokenizer.bos_id is None
    assert not text.add_bos
    assert text.template is None
    assert text.tokenizer.encode("abab") == [2, 2]


def test_metadata_of_the_default_model_has_the_kind_that_is_tested(default_gguf: Path) -> None:
    assert gguf_metadata(default_gguf)["tokenizer.ggml.pre"] == "smollm"


def test_cuttings_are_those_of_the_published_tokenizers() -> None:
    """Where transformers writes the same pattern down, it is the same; GPT-2's cuts as the library's own code does."""
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    assert CUTTINGS["qwen2"].patterns == (PRETOKENIZE_REGEX,)
    shared = [kind for kind in CUTTINGS if kind in GGUF_PRE_TOKENIZER_SPLITS]
    assert "tekken" in shared
    for kind in shared:
        assert CUTTINGS[kind].patterns == (GGUF_PRE_TOKENIZER_SPLITS[kind],)
    (pattern,) = CUTTINGS["gpt-2"].patterns
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    ours = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    for text in strings():
        assert ours.pre_tokenize_str(text) == theirs.pre_tokenize_str(text), repr(text)


@pytest.mark.parametrize("pre", sorted(CUTTINGS))
def test_every_known_cutting_builds_and_loses_nothing(pre: str) -> None:
    tokens = sorted(byte_alphabet(), key=lambda char: byte_alphabet()[char])
    metadata = smallest(pre=pre, tokens=[*tokens, "ab"], token_type=[1] * 257, eos_token_id=None)
    tokenizer = load_text("gguf", FILE, metadata).tokenizer
    for text in strings()[::10]:
        composed = unicodedata.normalize("NFC", text) if CUTTINGS[pre].nfc else text
        assert tokenizer.decode(tokenizer.encode(text)) == composed
    assert tokenizer.encode("ab") == [256]
    assert tokenizer.encode("a b") == [97, 32, 98]


def test_default_cutting_takes_punctuation_and_threes_of_digits_apart() -> None:
    steps = pre_tokenizer(CUTTINGS["default"])
    assert [piece for piece, _ in steps.pre_tokenize_str("ab, 12345 c")] == ["ab", ",", "Ġ", "123", "45", "Ġc"]
