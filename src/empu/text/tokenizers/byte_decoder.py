"""Base classes of the tokenizers: decoding by bytes, and special tokens for libraries that only know plain text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from empu.errors import TokenizerError
from empu.text.tokenizers.special_tokens import SpecialTokenSplitter, to_well_formed


class ByteDecoder(ABC):
    """Decodes by joining the bytes of tokens, so that a character split over several tokens is complete again."""

    vocab_size: int
    bos_id: int | None
    eos_ids: frozenset[int]
    special_tokens: Mapping[str, int]
    drops_leading_space: bool
    """Whether encoding adds a space at the start of a text, which decoding removes again."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """As in :class:`~empu.text.base.Tokenizer`. Raises :class:`TokenizerError` for an id out of range."""

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """Return the text of ``ids``. With ``keep_special``, special tokens appear by name and nothing is dropped."""
        if keep_special:
            data = b"".join(self._names.get(i) or self.token_bytes(i) for i in ids)
            return data.decode("utf-8", "replace")
        data = b"".join(map(self.token_bytes, ids))
        if self.drops_leading_space and data[:1] == b" ":
            data = data[1:]
        return data.decode("utf-8", "replace")

    def set_special_tokens(self, special_tokens: Mapping[str, int]) -> None:
        """Set the special tokens."""
        self.special_tokens = dict(special_tokens)
        self._names = {i: name.encode("utf-8") for name, i in special_tokens.items()}

    def check_token(self, token: int) -> None:
        """Raise :class:`TokenizerError` unless ``token`` is an id of this vocabulary."""
        if not 0 <= token < self.vocab_size:
            raise TokenizerError(
                f"Token {token} is not in the vocabulary of {self.vocab_size:,} tokens; it comes from another model."
            )

    def bos_prefix(self, add_bos: bool) -> list[int]:
        """Return the ids before the text: BOS if requested and known."""
        return [self.bos_id] if add_bos and self.bos_id is not None else []


class PlainTextTokenizer(ByteDecoder):
    """A tokenizer whose library knows only plain text."""

    def set_special_tokens(self, special_tokens: Mapping[str, int]) -> None:
        super().set_special_tokens(special_tokens)
        self._splitter = SpecialTokenSplitter(special_tokens)

    @abstractmethod
    def encode_plain(self, text: str) -> list[int]:
        """Return the ids of plain, well-formed, non-empty text."""

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        """As in :class:`~empu.text.base.Tokenizer`."""
        ids = self.bos_prefix(add_bos)
        text = to_well_formed(text)
        parts = self._splitter.split(text) if parse_special else [text] if text else []
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self.encode_plain(part)
        return ids
