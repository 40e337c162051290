"""The interfaces of tokenizers and chat templates, whatever file they come from."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Message = Mapping[str, Any]
"""One message of a dialogue: ``role`` ("system", "user", "assistant", "tool"), ``content``, and further keys that chat
templates know.
"""


class Tokenizer(Protocol):
    """Converts text to token ids and back. Special tokens are control tokens, not part of the text."""

    vocab_size: int
    """Number of ids that the tokenizer knows. The embedding may have more rows."""
    bos_id: int | None
    eos_ids: frozenset[int]
    """Ids that end an answer: end of text, end of turn."""
    special_tokens: Mapping[str, int]

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        """Return the ids of ``text``.

        With ``parse_special``, names of special tokens in the text become these tokens; otherwise they stay text.
        """

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """Return the text of ``ids``. Bytes that are not UTF-8 become U+FFFD."""

    def token_bytes(self, token: int) -> bytes:
        """Return the exact bytes that one token adds to a text; none for special tokens."""


class ChatTemplate(Hashable, Protocol):
    """Formats messages as the text that the model was trained on."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return the dialogue as text. Raises :class:`~empu.errors.TemplateError`."""


@runtime_checkable
class MarkerAwareTokenizer(Protocol):
    """A tokenizer that can be told which names of special tokens in a text are not special tokens."""

    def encode_with_marker(self, text: str, marker: str) -> list[int]:
        """Return the ids of ``text``, parsing special tokens, except those that contain the character ``marker``.

        These are tokenized as plain text, and as if the marker had never been there.
        """


@runtime_checkable
class ChatEncoder(Protocol):
    """A chat template that returns token ids itself, because it decides where tokenization starts anew."""

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Return the dialogue as ids. Message contents never become special tokens.

        Raises :class:`~empu.errors.TemplateError`.
        """


@dataclass(frozen=True, slots=True)
class TextProcessor:
    """Everything that converts between text and tokens for one model."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    """``None`` for base models, which have no chat template."""
    add_bos: bool
    """Whether a plain prompt begins with the BOS token."""
