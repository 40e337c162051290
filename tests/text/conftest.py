"""The default model's tokenizer, as loaded by Empu and built independently with the tokenizers library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from empu.text import load_text_processor
from empu.text.base import TextProcessor
from tests.text.gguf_metadata import gguf_metadata

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def default_processor(default_gguf: Path) -> TextProcessor:
    """The default model's tokenizer and template, loaded by Empu."""
    return load_text_processor("gguf", default_gguf, gguf_metadata(default_gguf))


@pytest.fixture(scope="session")
def default_reference(default_gguf: Path) -> PreTrainedTokenizerFast:
    """The default model's tokenizer as its authors define it: single digits, then GPT-2's byte-level BPE."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    metadata = gguf_metadata(default_gguf)
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    backend.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=metadata["tokenizer.chat_template"],
        clean_up_tokenization_spaces=False,
    )
