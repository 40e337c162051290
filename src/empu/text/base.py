"""What a tokenizer and a chat template are, whatever file they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Message = Mapping[str, Any]
"""One turn: ``role`` ("system", "user", "assistant", "tool") and ``content``; further keys as chat templates know
them.
"""


class Tokenizer(Protocol):
    """Text <-> token ids. Special tokens are control tokens; text that merely spells one stays text unless asked."""

    vocab_size: int
    """Number of ids that the tokenizer itself knows (the embedding may have more rows)."""
    bos_id: int | None
    eos_ids: frozenset[int]
    """Ids that end an answer: end of text, end of turn."""
    special_tokens: Mapping[str, int]

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        """Ids of ``text``. With ``parse_special`` the spellings of special tokens become those tokens; otherwise they
        stay text.
        """

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD."""

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes that one token adds to running text; empty for special tokens."""


class ChatTemplate(Protocol):
    """Messages -> the text that the model was trained to see."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The dialogue as text. Raises :class:`~empu.errors.TemplateError`."""


@runtime_checkable
class MarkedEncoder(Protocol):
    """A tokenizer that can be told which spellings of special tokens are none."""

    def encode_marked(self, text: str, marker: str) -> list[int]:
        """Ids of ``text`` with its special tokens, save those in which the character ``marker`` stands: they are
        tokenized as letters, and as if the marker had never been there.
        """


@runtime_checkable
class DialogueFormat(Protocol):
    """A chat template that writes token ids itself, because where its tokenizer starts anew matters."""

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """The dialogue as ids; contents never become special tokens. Raises :class:`~empu.errors.TemplateError`."""


@dataclass(frozen=True, slots=True)
class Text:
    """All that a model needs to speak: its tokenizer, its chat template (base models have none) and how a prompt
    begins.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    add_bos: bool
    """Whether a plain prompt begins with the BOS token."""
