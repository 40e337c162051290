"""Incremental decoding: the text of tokens as they arrive. A character is returned when all of its bytes are there."""

from __future__ import annotations

import codecs

from empu.text.base import Tokenizer


class StreamDecoder:
    """Decodes token by token. All returned texts together equal ``tokenizer.decode`` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8_decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True

    def feed(self, token: int) -> str:
        """Return the text that ``token`` completes; empty while a character is incomplete."""
        data = self._tokenizer.token_bytes(token)
        if self._at_start and data:
            self._at_start = False
            if data[:1] == b" " and not self._keeps_space(token, data):
                data = data[1:]
        return self._utf8_decoder.decode(data)

    def flush(self) -> str:
        """Return what is left at the end. An incomplete character becomes U+FFFD."""
        rest = self._utf8_decoder.decode(b"", final=True)
        self._utf8_decoder.reset()
        self._at_start = True
        return rest

    def _keeps_space(self, token: int, data: bytes) -> bool:
        """Return whether decoding keeps a leading space. SentencePiece adds one when encoding and removes it again."""
        return self._tokenizer.decode([token]) == data.decode("utf-8", "replace")
