"""Answers that are held to a JSON Schema, token by token, by the llguidance library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from empu.server.problems import ProblemError
from empu.text.base import Text, Tokenizer
from empu.text.task import end_of_turn

MAX_GRAMMAR_BYTES = 64 << 10
"""Of a schema, written as JSON."""


class Guides:
    """Makes guides for one model; ``width`` is the length of its rows of logits."""

    def __init__(self, text: Text, width: int) -> None:
        self._width = width
        self._tokenizer = LLTokenizer(TokenizerWrapper(_Wrapped(text.tokenizer, end_of_turn(text))))
        self._ends = text.tokenizer.eos_ids

    def schema(self, schema: Mapping[str, Any], param: str) -> SchemaGuide:
        """A guide for one answer. Raises :class:`ProblemError` naming ``param`` for a schema that cannot be kept."""
        written = json.dumps(schema)
        if len(written) > MAX_GRAMMAR_BYTES:
            message = f"{param} has {len(written):,} bytes and at most {MAX_GRAMMAR_BYTES:,} are taken."
            raise ProblemError(400, message, param=param, code="grammar_too_large")
        try:
            grammar = LLMatcher.grammar_from_json_schema(written, overrides={"whitespace_flexible": False})
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
        except ValueError as error:
            raise _refused(param, str(error)) from None
        if matcher.is_error():
            raise _refused(param, matcher.get_error())
        return SchemaGuide(matcher, self._width, self._ends)


class SchemaGuide:
    """Implements :class:`~empu.engine.jobs.Guide`."""

    def __init__(self, matcher: LLMatcher, width: int, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._width = width
        self._ends = sorted(ends)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """(V,): the tokens that keep the answer inside the schema; any end of answer once it is complete."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        mask = np.zeros(self._width, dtype=np.bool_)
        count = min(self._width, len(bits))
        mask[:count] = bits[:count]
        mask[self._ends] = self._matcher.is_accepting()
        if not mask.any():
            raise ProblemError(400, "No token of this model continues the answer within the schema.", code="grammar")
        return mask

    def accept(self, token: int) -> None:
        """Go on behind ``token``."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise ProblemError(400, f"The schema cannot be kept ({_line(self._matcher.get_error())}).", code="grammar")


class _Wrapped:
    """A tokenizer as llguidance asks for it."""

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        special = set(tokenizer.special_tokens.values())
        names = {token: name for name, token in tokenizer.special_tokens.items()}
        self.eos_token_id = end
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted(special)
        self.tokens = [
            names[token].encode() if token in special else tokenizer.token_bytes(token)
            for token in range(tokenizer.vocab_size)
        ]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


def _refused(param: str, reason: str) -> ProblemError:
    return ProblemError(400, f"{param} cannot be kept: {_line(reason)}.", param=param, code="schema")


def _line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".")[:300]
