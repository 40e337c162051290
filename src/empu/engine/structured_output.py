"""Structured output: generations that follow a JSON Schema, a regular expression or a grammar, by llguidance.

Where the grammar allows only one token, it is taken without the model, and computed together with the next one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.engine.stop_strings import StopBoundary
from empu.errors import MissingDependencyError, UsageError
from empu.text.base import TextProcessor, Tokenizer
from empu.text.templates.turns import end_of_turn_id

try:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "Structured output needs llguidance, which is not installed; install it with: pip install llguidance."
    ) from error

MAX_GRAMMAR_BYTES = 64 << 10
"""Limit on a grammar, or on a schema as JSON."""


class GrammarError(UsageError):
    """A schema or grammar cannot be used; ``reason`` says why, as a clause without a full stop."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        self.reason = reason
        self.too_large = too_large
        super().__init__(f"The schema cannot be used: {reason}; change it, or ask without a schema.")


class GrammarCompiler:
    """Compiles grammars for one vocabulary. Each compiled matcher serves one generation."""

    def __init__(self, text: TextProcessor, vocab_size: int) -> None:
        """``vocab_size`` is the model's, which may be larger than the tokenizer's."""
        self._vocab_size = vocab_size
        self._end_of_turn = end_of_turn_id(text)
        self._eos_ids = text.tokenizer.eos_ids
        self._tokenizer = LLTokenizer(TokenizerWrapper(_TokenizerAdapter(text.tokenizer, self._end_of_turn)))

    def compile_json_schema(self, schema: Mapping[str, Any]) -> GrammarMatcher:
        """Compile a JSON Schema; the output has no optional whitespace. Raises :class:`GrammarError`."""
        return self._compile(
            json.dumps(schema),
            lambda text: LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_flexible": False}),
        )

    def compile_regex(self, pattern: str) -> GrammarMatcher:
        """Compile a regular expression (no look-around) for the whole output. Raises :class:`GrammarError`."""
        return self._compile(pattern, LLMatcher.grammar_from_regex)

    def compile_lark(self, grammar: str) -> GrammarMatcher:
        """Compile a context-free grammar in llguidance's dialect of Lark. Raises :class:`GrammarError`."""
        return self._compile(grammar, LLMatcher.grammar_from_lark)

    def _compile(self, grammar: str, translate: Any) -> GrammarMatcher:
        if (size := len(grammar.encode("utf-8", "replace"))) > MAX_GRAMMAR_BYTES:
            raise GrammarError(f"it has {size:,} bytes; the limit is {MAX_GRAMMAR_BYTES:,}", too_large=True)
        try:
            limits = LLParserLimits(verbose_errors=False)
            matcher = LLMatcher(self._tokenizer, translate(grammar), log_level=0, limits=limits)
        except ValueError as error:
            raise GrammarError(_one_line(str(error))) from None
        probe = matcher.deep_copy()  # exceeded parser limits show at the first choice
        while not probe.is_error() and (forced := probe.compute_ff_tokens()):
            probe.consume_tokens(forced)
        if probe.is_error():
            raise GrammarError(_one_line(probe.get_error()))
        return GrammarMatcher(matcher, self._vocab_size, self._end_of_turn, self._eos_ids)


class GrammarMatcher:
    """A :class:`~empu.engine.generation.TokenConstraint` that keeps one generation inside a grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, end_of_turn: int, eos_ids: frozenset[int]) -> None:
        self.stop_boundary: StopBoundary | None = None
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._end_of_turn = end_of_turn
        self._eos_ids = sorted(token for token in eos_ids if token < vocab_size)

    def allowed_tokens(self) -> npt.NDArray[np.bool_]:
        """(V,): true for tokens inside the grammar, and for all end tokens once the output is complete."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        mask = np.zeros(self._vocab_size, dtype=np.bool_)
        count = min(self._vocab_size, len(bits))
        mask[:count] = bits[:count]
        mask[self._eos_ids] = self._matcher.is_accepting()
        if not mask.any():
            raise GrammarError("no token of this model continues the output within it")
        return mask

    def accept(self, token: int) -> None:
        """Advance by ``token``. Raises :class:`GrammarError` where it leaves the grammar."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise GrammarError(_one_line(self._matcher.get_error()))

    def forced_tokens(self) -> tuple[int, ...]:
        """Return the tokens that must come next, up to the next choice; the end token where the output is complete.

        Each has yet to be accepted.
        """
        if self._matcher.is_stopped():
            return (self._end_of_turn,)
        return tuple(self._matcher.compute_ff_tokens())


class _TokenizerAdapter:
    """A tokenizer with the interface that llguidance expects."""

    def __init__(self, tokenizer: Tokenizer, end_of_turn: int) -> None:
        special = set(tokenizer.special_tokens.values())
        names = {token: name for name, token in tokenizer.special_tokens.items()}
        self.eos_token_id = end_of_turn
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted(special)
        self.tokens = [
            names[token].encode() if token in special else tokenizer.token_bytes(token)
            for token in range(tokenizer.vocab_size)
        ]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


def _one_line(text: str) -> str:
    """Reduce a message of llguidance to one line, without its picture of the position."""
    lines = (line.strip() for line in text.strip().splitlines())
    words = [line for line in lines if line and set(line) - set("^ ")]
    return " ".join(words[: 1 if not words or not words[0].endswith(":") else None]).rstrip(".")[:300]
