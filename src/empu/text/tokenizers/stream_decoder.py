"""Text of tokens as they come, one by one: a character is shown when all of its bytes are there."""

from __future__ import annotations

import codecs

from empu.text.base import Tokenizer


class StreamDecoder:
    """All texts given out, joined, equal ``tokenizer.decode`` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True

    def feed(self, token: int) -> str:
        """The text that became certain with ``token``; empty while a character is incomplete."""
        data = self._tokenizer.token_bytes(token)
        if self._at_start and data:
            self._at_start = False
            if data[:1] == b" " and not self._keeps_space(token, data):
                data = data[1:]
        return self._bytes.decode(data)

    def flush(self) -> str:
        """What is left at the end: an incomplete character becomes U+FFFD."""
        rest = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        self._at_start = True
        return rest

    def _keeps_space(self, token: int, data: bytes) -> bool:
        """Whether decoding keeps the space that begins a text; SentencePiece put it there and takes it away."""
        return self._tokenizer.decode([token]) == data.decode("utf-8", "replace")
