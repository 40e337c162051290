"""Meta's ``tokenizer.model`` of Llama 3: a tiktoken file of ranks, and 256 special tokens that are not in it.

Source of the pattern, the names and the cuts: Meta's reference, ``llama_models.llama3.tokenizer``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from empu.errors import TokenizerError
from empu.text.tokenizers.byte_decoder import RunTokenizer
from empu.text.tokenizers.special_tokens import ending_ids

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_NAMED = (
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
_SPECIAL_COUNT = 256
_MOST_CHARS = 400_000
_MOST_OF_A_KIND = 25_000
"""Characters in a row, all white space or none, that the library takes without trouble."""


class TiktokenTokenizer(RunTokenizer):
    """Byte-pair encoding by ranks over UTF-8 bytes."""

    drops_leading_space = False

    def __init__(self, data: bytes, where: str) -> None:
        """``data`` is the file, ``where`` its name for messages. Raises :class:`TokenizerError`."""
        import tiktoken

        ranks = read_ranks(data, where)
        count = len(ranks)
        self.set_special({name: count + i for i, name in enumerate(special_names())})
        self._bytes = list(ranks)
        self.vocab_size = count + _SPECIAL_COUNT
        self.bos_id = self.special_tokens["<|begin_of_text|>"]
        self.eos_ids = ending_ids(self.special_tokens)
        self._encoding = tiktoken.Encoding(
            name="llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={}
        )

    def encode_run(self, text: str) -> list[int]:
        ids: list[int] = []
        for start in range(0, len(text), _MOST_CHARS):
            for piece in _cut(text[start : start + _MOST_CHARS]):
                ids += self._encoding.encode_ordinary(piece)
        return ids

    def token_bytes(self, token: int) -> bytes:
        self.check(token)
        return self._bytes[token] if token < len(self._bytes) else b""


def special_names() -> list[str]:
    """The 256 special tokens in the order of their ids."""
    more = range(2, 2 + _SPECIAL_COUNT - len(_NAMED))
    return [*_NAMED, *(f"<|reserved_special_token_{i}|>" for i in more)]


def read_ranks(data: bytes, where: str) -> dict[bytes, int]:
    """Token bytes -> rank, in the order of ranks 0, 1, 2 ...; raises :class:`TokenizerError` for anything else."""
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
    lacking = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if lacking is not None:
        raise TokenizerError(f"{where}: there is no token for the byte 0x{lacking:02x}; fetch the file again.")
    return ranks


def _cut(text: str) -> Iterator[str]:
    """Pieces in which no run of white space, or of anything else, is longer than the library takes."""
    length, start, space = 0, 0, text[:1].isspace()
    for i, char in enumerate(text):
        if char.isspace() != space:
            length, space = 1, not space
            continue
        length += 1
        if length > _MOST_OF_A_KIND:
            yield text[start:i]
            start, length = i, 1
    yield text[start:]
