"""SentencePiece models: Llama 2's ``tokenizer.model``, and the same vocabulary written out in a GGUF file.

The second is put back into the form that the library reads (field numbers from ``sentencepiece_model.proto``), so one
implementation serves both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

from empu.errors import TokenizerError
from empu.text.tokenizers.byte_decoder import RunTokenizer
from empu.text.tokenizers.special_tokens import ending_ids

SPACE = "▁"


class PieceType(IntEnum):
    """Kinds of tokens; the numbers are the same in SentencePiece files and in GGUF."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class SentencePieceTokenizer(RunTokenizer):
    """A SentencePiece model. The space that it puts before each run of text vanishes again at the start of a text."""

    def __init__(self, model: bytes, where: str, *, bos_id: int | None = None, eos_ids: Iterable[int] = ()) -> None:
        """``model`` is a serialized model; ``bos_id`` and ``eos_ids`` add to its own. Raises
        :class:`TokenizerError`.
        """
        import sentencepiece

        pieces = sentencepiece.SentencePieceProcessor()
        try:
            pieces.LoadFromSerializedProto(model)
        except (RuntimeError, ValueError, SystemError) as error:
            reason = " ".join(str(error).split())
            raise TokenizerError(f"{where}: SentencePiece refuses this vocabulary ({reason}).") from None
        self._pieces = pieces
        self.vocab_size = int(pieces.GetPieceSize())
        special = (i for i in range(self.vocab_size) if pieces.IsControl(i) or pieces.IsUnknown(i))
        self.set_special({pieces.IdToPiece(i): i for i in special})
        own_bos, own_eos = int(pieces.bos_id()), int(pieces.eos_id())
        self.bos_id = bos_id if bos_id is not None else own_bos if own_bos >= 0 else None
        own_ends = {own_eos} if own_eos >= 0 else set()
        self.eos_ids = ending_ids(self.special_tokens) | own_ends | frozenset(eos_ids)
        # The library tells a dummy prefix only by its effect.
        first = pieces.EncodeAsPieces("a")
        self.drops_leading_space = bool(first) and first[0].startswith(SPACE)

    def encode_run(self, text: str) -> list[int]:
        return list(self._pieces.EncodeAsIds(text))

    def token_bytes(self, token: int) -> bytes:
        self.check(token)
        if token in self._names:
            return b""
        piece: str = self._pieces.IdToPiece(token)
        if self._pieces.IsByte(token):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE, " ").encode("utf-8")


def is_sentencepiece(data: bytes) -> bool:
    """Whether a ``tokenizer.model`` is a SentencePiece file: its first field is a piece; tiktoken's is base64 text."""
    return data[:1] == b"\n" and data[2:3] == b"\n"


def serialize(tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], *, add_space_prefix: bool) -> bytes:
    """A SentencePiece BPE model that changes nothing in the text but spaces to ``▁``."""
    pieces = [
        _field(1, _field(1, token.encode("utf-8")) + _float(2, score) + _varint(3, kind))
        for token, score, kind in zip(tokens, scores, types, strict=True)
    ]
    bpe, byte_fallback = 2, int(PieceType.BYTE in types)
    trainer = _varint(3, bpe) + _varint(35, byte_fallback)
    # The ids of <s> and </s> come from the GGUF file, so the library is told of none.
    trainer += b"".join(_varint(number, -1) for number in (41, 42, 43))
    normalizer = _field(1, b"identity") + _varint(3, int(add_space_prefix)) + _varint(4, 0) + _varint(5, 1)
    return b"".join(pieces) + _field(2, trainer) + _field(3, normalizer)


def added_pieces(tokens: Iterable[tuple[str, bool]]) -> bytes:
    """More tokens (spelling, special) to put after a serialized model: repeated fields go on where they stopped."""
    kinds = ((name, PieceType.CONTROL if special else PieceType.USER_DEFINED) for name, special in tokens)
    return b"".join(
        _field(1, _field(1, name.encode("utf-8")) + _float(2, 0.0) + _varint(3, kind)) for name, kind in kinds
    )


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(field: int, value: Any) -> bytes:
    return _number(field << 3) + _number(int(value))


def _float(field: int, value: float) -> bytes:
    return _number(field << 3 | 5) + struct.pack("<f", value)


def _field(field: int, data: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(data)) + data
