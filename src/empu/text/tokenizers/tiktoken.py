"""Meta's ``tokenizer.model`` of Llama 3: a tiktoken file of ranks, and 256 special tokens that are not in it.

The pattern, the names and the maximum lengths are those of Meta's reference, ``llama_models.llama3.tokenizer``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from empu.errors import TokenizerError
from empu.text.tokenizers.byte_decoder import PlainTextTokenizer
from empu.text.tokenizers.special_tokens import end_token_ids

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_NAMED_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
)
_N_SPECIAL_TOKENS = 256
_MAX_CHARS = 400_000
_MAX_RUN = 25_000
"""Longest run of only white space, or of no white space, that the library can tokenize."""


class TiktokenTokenizer(PlainTextTokenizer):
    """Byte-pair encoding by ranks over UTF-8 bytes."""

    drops_leading_space = False

    def __init__(self, data: bytes, where: str) -> None:
        """``data`` is the content of the file; ``where`` begins the error messages. Raises :class:`TokenizerError`."""
        import tiktoken

        ranks = read_ranks(data, where)
        n_ranks = len(ranks)
        self.set_special_tokens({name: n_ranks + i for i, name in enumerate(special_names())})
        self._bytes = list(ranks)
        self.vocab_size = n_ranks + _N_SPECIAL_TOKENS
        self.bos_id = self.special_tokens["<|begin_of_text|>"]
        self.eos_ids = end_token_ids(self.special_tokens)
        self._encoding = tiktoken.Encoding(
            name="llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={}
        )

    def encode_plain(self, text: str) -> list[int]:
        ids: list[int] = []
        for start in range(0, len(text), _MAX_CHARS):
            for part in _split_long_runs(text[start : start + _MAX_CHARS]):
                ids += self._encoding.encode_ordinary(part)
        return ids

    def token_bytes(self, token: int) -> bytes:
        self.check_token(token)
        return self._bytes[token] if token < len(self._bytes) else b""


def special_names() -> list[str]:
    """Return the 256 special tokens in the order of their ids."""
    reserved = range(2, 2 + _N_SPECIAL_TOKENS - len(_NAMED_TOKENS))
    return [*_NAMED_TOKENS, *(f"<|reserved_special_token_{i}|>" for i in reserved)]


def read_ranks(data: bytes, where: str) -> dict[bytes, int]:
    """Return token bytes -> rank, in the order 0, 1, 2 ... Raises :class:`TokenizerError` for anything else."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(
                f"{where}, line {number}: not a token in base64 and its rank; fetch the file again."
            ) from None
    if list(ranks.values()) != list(range(len(ranks))):
        raise TokenizerError(f"{where}: the ranks are not 0, 1, 2 and so on, each once; fetch the file again.")
    missing_byte = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if missing_byte is not None:
        raise TokenizerError(f"{where}: there is no token for the byte 0x{missing_byte:02x}; fetch the file again.")
    return ranks


def _split_long_runs(text: str) -> Iterator[str]:
    """Split the text where a run of white space, or of anything else, is longer than the library can tokenize."""
    length, start, is_space = 0, 0, text[:1].isspace()
    for i, char in enumerate(text):
        if char.isspace() != is_space:
            length, is_space = 1, not is_space
            continue
        length += 1
        if length > _MAX_RUN:
            yield text[start:i]
            start, length = i, 1
    yield text[start:]
