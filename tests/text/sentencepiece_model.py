"""A small SentencePiece model for tests."""

from __future__ import annotations

import io

import sentencepiece

from tests.text.corpus import WORDS


def train_sentencepiece(*, add_dummy_prefix: bool = True) -> bytes:
    """Train a small SentencePiece BPE model with byte fallback, like Llama 2's."""
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
