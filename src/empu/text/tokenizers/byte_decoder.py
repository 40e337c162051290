"""What tokenizers share: decoding by bytes, and finding special tokens for libraries that know only plain text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from empu.errors import TokenizerError
from empu.text.tokenizers.special_tokens import Spellings, well_formed


class ByteDecoder(ABC):
    """Decoding by joining the bytes of tokens, so that a character split over tokens is whole again."""

    vocab_size: int
    bos_id: int | None
    eos_ids: frozenset[int]
    special_tokens: Mapping[str, int]
    drops_leading_space: bool
    """Whether encoding puts a space before the text, which decoding takes away again."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """As in :class:`~empu.text.base.Tokenizer`; raises :class:`TokenizerError` for an id out of range."""

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """Text of ``ids``; with ``keep_special`` each token as it is spelled, nothing dropped."""
        if keep_special:
            data = b"".join(self._names.get(i) or self.token_bytes(i) for i in ids)
            return data.decode("utf-8", "replace")
        data = b"".join(map(self.token_bytes, ids))
        if self.drops_leading_space and data[:1] == b" ":
            data = data[1:]
        return data.decode("utf-8", "replace")

    def set_special(self, special_tokens: Mapping[str, int]) -> None:
        """Make these the special tokens."""
        self.special_tokens = dict(special_tokens)
        self._names = {i: name.encode("utf-8") for name, i in special_tokens.items()}

    def check(self, token: int) -> None:
        """Raise :class:`TokenizerError` unless ``token`` is an id of this vocabulary."""
        if not 0 <= token < self.vocab_size:
            raise TokenizerError(
                f"Token {token} is not in the vocabulary of {self.vocab_size:,} tokens; it comes from another model."
            )

    def start(self, add_bos: bool) -> list[int]:
        """The ids before the text: BOS if asked for and known."""
        return [self.bos_id] if add_bos and self.bos_id is not None else []


class RunTokenizer(ByteDecoder):
    """A tokenizer whose library knows only plain text."""

    def set_special(self, special_tokens: Mapping[str, int]) -> None:
        super().set_special(special_tokens)
        self._spellings = Spellings(special_tokens)

    @abstractmethod
    def encode_run(self, text: str) -> list[int]:
        """Ids of plain, well-formed, non-empty text."""

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        """As in :class:`~empu.text.base.Tokenizer`."""
        ids = self.start(add_bos)
        text = well_formed(text)
        pieces = self._spellings.split(text) if parse_special else [text] if text else []
        for piece in pieces:
            if isinstance(piece, int):
                ids.append(piece)
            else:
                ids += self.encode_run(piece)
        return ids
