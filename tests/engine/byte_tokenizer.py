"""A tokenizer of bytes with the vocabulary of the preset ``tiny``: every id from 3 to 258 is one byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from empu.config import preset
from empu.text.tokenizers.special_tokens import SpecialTokenSplitter


class ByteTokenizer:
    """Ids 0, 1 and 2 are special; ids beyond the bytes decode to nothing."""

    vocab_size = preset("tiny").vocab_size
    bos_id: int | None = 1

    def __init__(self, eos: Iterable[int] = (2,)) -> None:
        self.eos_ids = frozenset(eos)
        self.special_tokens: Mapping[str, int] = {"<unk>": 0, "<s>": 1, "</s>": 2}

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        parts = SpecialTokenSplitter(self.special_tokens).split(text) if parse_special else [text]
        ids = [1] if add_bos else []
        for part in parts:
            ids += [part] if isinstance(part, int) else [3 + byte for byte in part.encode()]
        return ids

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token - 3]) if 3 <= token < 259 else b""
