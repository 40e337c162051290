"""Byte-level BPE from the metadata of a GGUF file: tokens, merges, and the name of the pre-tokenization."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from empu.errors import TokenizerError, UnsupportedError
from empu.text.tokenizers.hf_tokenizer import HuggingFaceTokenizer
from empu.text.tokenizers.sentencepiece import PieceType
from empu.text.tokenizers.tiktoken import LLAMA3_PATTERN

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_QWEN2 = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class PreTokenization:
    """How text is split into words before BPE merges within each word."""

    patterns: tuple[str, ...]
    """Applied in turn. Both the matches of a pattern and the text between them become parts."""
    ignore_merges: bool = False
    """Whether a word that is in the vocabulary becomes one token without applying the merges."""
    add_bos: bool = False
    """Whether a text begins with BOS if the file does not say."""
    nfc: bool = False
    """Whether text is normalised to Unicode NFC first, as by the model's own tokenizer."""


_LLAMA3 = PreTokenization((LLAMA3_PATTERN,), ignore_merges=True, add_bos=True)
_SMOLLM = PreTokenization((_DIGIT, _GPT2))

PRE_TOKENIZERS = {
    "gpt-2": PreTokenization((_GPT2,)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "smaug-bpe": PreTokenization((LLAMA3_PATTERN,)),
    "dbrx": PreTokenization((LLAMA3_PATTERN,)),
    "smollm": _SMOLLM,
    "starcoder": _SMOLLM,
    "refact": _SMOLLM,
    "command-r": _SMOLLM,
    "qwen2": PreTokenization((_QWEN2,), nfc=True),
    "tekken": PreTokenization((_TEKKEN,), ignore_merges=True, add_bos=True),
    "default": PreTokenization((r"[\p{P}\$\+<=>\^~\|]+", _GPT2.removesuffix(r"|\s+"), r"\p{N}+", "[0-9][0-9][0-9]")),
}
"""``tokenizer.ggml.pre`` -> pre-tokenization. Names and patterns are those of llama.cpp and of the gguf package."""


def build_bpe(
    tokens: Sequence[str],
    types: Sequence[int],
    merges: Sequence[str],
    pre: str,
    where: str,
    *,
    bos_id: int | None,
    eos_ids: Iterable[int],
) -> HuggingFaceTokenizer:
    """Build the tokenizer.

    Raises :class:`TokenizerError` for a broken vocabulary and :class:`UnsupportedError` for an unknown ``pre``.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pre_tokenization = PRE_TOKENIZERS.get(pre)
    if pre_tokenization is None:
        raise UnsupportedError(
            f"{where}: the pre-tokenizer {pre!r} is not one that Empu knows ({', '.join(sorted(PRE_TOKENIZERS))})."
        )
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        duplicate = next(token for i, token in enumerate(tokens) if vocabulary[token] != i)
        raise TokenizerError(f"{where}: the token {duplicate!r} is in the vocabulary twice; the file is damaged.")
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        model = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre_tokenization.ignore_merges)
    except Exception as error:  # the library raises bare Exception
        reason = " ".join(str(error).split())
        raise TokenizerError(f"{where}: the merges do not fit the vocabulary ({reason}).") from None
    backend = Tokenizer(model)
    backend.pre_tokenizer = build_pre_tokenizer(pre_tokenization)
    backend.decoder = decoders.ByteLevel()
    if pre_tokenization.nfc:
        backend.normalizer = normalizers.NFC()
    for type_, is_special in ((PieceType.CONTROL, True), (PieceType.UNKNOWN, True), (PieceType.USER_DEFINED, False)):
        names = [token for token, token_type in zip(tokens, types, strict=True) if token_type == type_ and token]
        backend.add_tokens([AddedToken(name, special=is_special, normalized=False) for name in names])
    return HuggingFaceTokenizer(backend, where, bos_id=bos_id, eos_ids=eos_ids)


def build_pre_tokenizer(pre_tokenization: PreTokenization) -> PreTokenizer:
    """Return the library's pre-tokenizer, whose output is in byte-level characters."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[PreTokenizer] = [pre_tokenizers.Split(Regex(p), behavior="isolated") for p in pre_tokenization.patterns]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
