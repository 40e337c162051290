"""Byte-level BPE from the metadata of a GGUF file: tokens, merges, and the name of the way text is cut before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from empu.errors import TokenizerError, UnsupportedError
from empu.text.tokenizers.hf_tokenizer import FastTokenizer
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
class Cutting:
    """How text becomes words before BPE merges within each."""

    patterns: tuple[str, ...]
    """Applied one after the other; what a pattern matches, and what lies between matches, are the pieces."""
    whole_words: bool = False
    """A word that is in the vocabulary is that token, whatever the merges say."""
    begins_with_bos: bool = False
    """Whether a text begins with BOS where the file does not say."""
    nfc: bool = False
    """Whether characters are composed first (Unicode NFC), as the model's own tokenizer does."""


_LLAMA3 = Cutting((LLAMA3_PATTERN,), whole_words=True, begins_with_bos=True)
_SMOLLM = Cutting((_DIGIT, _GPT2))

CUTTINGS = {
    "gpt-2": Cutting((_GPT2,)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "smaug-bpe": Cutting((LLAMA3_PATTERN,)),
    "dbrx": Cutting((LLAMA3_PATTERN,)),
    "smollm": _SMOLLM,
    "starcoder": _SMOLLM,
    "refact": _SMOLLM,
    "command-r": _SMOLLM,
    "qwen2": Cutting((_QWEN2,), nfc=True),
    "tekken": Cutting((_TEKKEN,), whole_words=True, begins_with_bos=True),
    "default": Cutting((r"[\p{P}\$\+<=>\^~\|]+", _GPT2.removesuffix(r"|\s+"), r"\p{N}+", "[0-9][0-9][0-9]")),
}
"""``tokenizer.ggml.pre`` -> cutting. The names and patterns are those that GGUF writers and readers agree on."""


def build_bpe(
    tokens: Sequence[str],
    types: Sequence[int],
    merges: Sequence[str],
    pre: str,
    where: str,
    *,
    bos_id: int | None,
    eos_ids: Iterable[int],
) -> FastTokenizer:
    """The tokenizer; raises :class:`TokenizerError` for a broken vocabulary and :class:`UnsupportedError` for an
    unknown ``pre``.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    cutting = CUTTINGS.get(pre)
    if cutting is None:
        raise UnsupportedError(
            f"{where}: the pre-tokenizer {pre!r} is not one that Empu knows ({', '.join(sorted(CUTTINGS))})."
        )
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if vocabulary[token] != i)
        raise TokenizerError(f"{where}: the token {twice!r} is in the vocabulary twice; the file is damaged.")
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        model = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=cutting.whole_words)
    except Exception as error:  # the library raises bare Exception
        reason = " ".join(str(error).split())
        raise TokenizerError(f"{where}: the merges do not fit the vocabulary ({reason}).") from None
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer(cutting)
    backend.decoder = decoders.ByteLevel()
    if cutting.nfc:
        backend.normalizer = normalizers.NFC()
    for kind, special in ((PieceType.CONTROL, True), (PieceType.UNKNOWN, True), (PieceType.USER_DEFINED, False)):
        chosen = [token for token, its in zip(tokens, types, strict=True) if its == kind]
        backend.add_tokens([AddedToken(token, special=special, normalized=False) for token in chosen if token])
    return FastTokenizer(backend, where, bos_id=bos_id, eos_ids=eos_ids)


def pre_tokenizer(cutting: Cutting) -> PreTokenizer:
    """The library's form of a cutting; it gives pieces in byte-level characters."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[PreTokenizer] = [pre_tokenizers.Split(Regex(p), behavior="isolated") for p in cutting.patterns]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
