"""A tokenizer of bytes, in the vocabulary of the preset ``tiny``: every id from 3 to 258 is one byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from empu.config import preset
from empu.text.tokenizers.special_tokens import Spellings


class Letters:
    """Ids 0, 1 and 2 are special; ids beyond the bytes read as nothing."""

    vocab_size = preset("tiny").vocab_size
    bos_id: int | None = 1

    def __init__(self, eos: Iterable[int] = (2,)) -> None:
        self.eos_ids = frozenset(eos)
        self.special_tokens: Mapping[str, int] = {"<unk>": 0, "<s>": 1, "</s>": 2}

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        pieces = Spellings(self.special_tokens).split(text) if parse_special else [text]
        ids = [1] if add_bos else []
        for piece in pieces:
            ids += [piece] if isinstance(piece, int) else [3 + byte for byte in piece.encode()]
        return ids

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token - 3]) if 3 <= token < 259 else b""
