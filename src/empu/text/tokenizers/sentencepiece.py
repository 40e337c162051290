"""SentencePiece models: Llama 2's ``tokenizer.model``, and the same vocabulary in the metadata of a GGUF file.

The latter is serialized to the format that the library reads (field numbers from ``sentencepiece_model.proto``), so one
implementation serves both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

from empu.errors import TokenizerError
from empu.text.tokenizers.byte_decoder import PlainTextTokenizer
from empu.text.tokenizers.special_tokens import end_token_ids

SPACE = "▁"


class PieceType(IntEnum):
    """Token types. The numbers are the same in SentencePiece files and in GGUF."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class SentencePieceTokenizer(PlainTextTokenizer):
    """A SentencePiece model. The space that it adds before a text is removed again when decoding."""

    def __init__(self, model: bytes, where: str, *, bos_id: int | None = None, eos_ids: Iterable[int] = ()) -> None:
        """``model`` is a serialized model. ``bos_id`` replaces its own and ``eos_ids`` are additional end tokens.

        Raises :class:`TokenizerError`.
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
        self.set_special_tokens({pieces.IdToPiece(i): i for i in special})
        own_bos, own_eos = int(pieces.bos_id()), int(pieces.eos_id())
        self.bos_id = bos_id if bos_id is not None else own_bos if own_bos >= 0 else None
        own_eos_ids = {own_eos} if own_eos >= 0 else set()
        self.eos_ids = end_token_ids(self.special_tokens, own_eos_ids.union(eos_ids))
        # The library shows whether there is a dummy prefix only by its effect.
        first = pieces.EncodeAsPieces("a")
        self.drops_leading_space = bool(first) and first[0].startswith(SPACE)

    def encode_plain(self, text: str) -> list[int]:
        return list(self._pieces.EncodeAsIds(text))

    def token_bytes(self, token: int) -> bytes:
        self.check_token(token)
        if token in self._names:
            return b""
        piece: str = self._pieces.IdToPiece(token)
        if self._pieces.IsByte(token):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE, " ").encode("utf-8")


def is_sentencepiece(data: bytes) -> bool:
    """Return whether a ``tokenizer.model`` is a SentencePiece file, which begins with a piece; tiktoken's is base64."""
    return data[:1] == b"\n" and data[2:3] == b"\n"


def serialize(tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], *, add_space_prefix: bool) -> bytes:
    """Return a serialized SentencePiece BPE model that only replaces spaces by ``▁`` before encoding."""
    pieces = [
        _bytes_field(1, _bytes_field(1, token.encode("utf-8")) + _float_field(2, score) + _varint_field(3, type_))
        for token, score, type_ in zip(tokens, scores, types, strict=True)
    ]
    bpe, byte_fallback = 2, int(PieceType.BYTE in types)
    trainer = _varint_field(3, bpe) + _varint_field(35, byte_fallback)
    # The ids of <s> and </s> come from the GGUF file, so the model itself has none.
    trainer += b"".join(_varint_field(number, -1) for number in (41, 42, 43))
    normalizer = (
        _bytes_field(1, b"identity")
        + _varint_field(3, int(add_space_prefix))
        + _varint_field(4, 0)
        + _varint_field(5, 1)
    )
    return b"".join(pieces) + _bytes_field(2, trainer) + _bytes_field(3, normalizer)


def added_pieces(tokens: Iterable[tuple[str, bool]]) -> bytes:
    """Serialize tokens (text, is special) to append to a serialized model, which extends its repeated field."""
    data = b""
    for name, is_special in tokens:
        type_ = PieceType.CONTROL if is_special else PieceType.USER_DEFINED
        piece = _bytes_field(1, name.encode("utf-8")) + _float_field(2, 0.0) + _varint_field(3, type_)
        data += _bytes_field(1, piece)
    return data


def _encode_varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(field: int, value: Any) -> bytes:
    return _encode_varint(field << 3) + _encode_varint(int(value))


def _float_field(field: int, value: float) -> bytes:
    return _encode_varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes_field(field: int, data: bytes) -> bytes:
    return _encode_varint(field << 3 | 2) + _encode_varint(len(data)) + data
