"""Answers that are held to a JSON Schema, a regular expression or a grammar, token by token, by llguidance.

Where the grammar leaves no choice, the tokens are taken without asking the model and read together with the next one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.engine.generation import Completion
from empu.engine.language_model import LanguageModel
from empu.engine.sampling import SamplingParams
from empu.engine.stop_strings import Until
from empu.errors import MissingDependencyError, UsageError
from empu.text.base import Message, Text, Tokenizer
from empu.text.task import end_of_turn

try:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "Answers within a schema need llguidance, which is not installed; install it with: pip install llguidance."
    ) from error

MAX_GRAMMAR_BYTES = 64 << 10
"""Of a schema, written as JSON, or another grammar."""


class GrammarError(UsageError):
    """A schema or grammar cannot be kept; ``reason`` says why, without a full stop."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        self.reason = reason
        self.too_large = too_large
        super().__init__(f"The schema cannot be kept: {reason}; change it, or ask without one.")


def answer(
    model: LanguageModel, prompt: str | Sequence[Message], schema: Mapping[str, Any], params: SamplingParams
) -> tuple[Any, Completion]:
    """The JSON value that ``model`` answers within ``schema``, and how it came about.

    Raises :class:`GrammarError` for a schema that cannot be kept, or when ``max_tokens`` ended the answer too early.
    """
    completion = model.stream(prompt, params, guide=guides_of(model).json_schema(schema)).completion
    try:
        return json.loads(completion.text), completion
    except ValueError:
        raise GrammarError(
            f"the answer was not complete after {completion.completion_tokens} tokens; allow more of them"
        ) from None


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON Schema out of a file. Raises :class:`UsageError` naming the file."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a JSON Schema ({error}); give a file with one.") from None
    if not isinstance(schema, dict):
        raise UsageError(f"{path} holds no JSON object; a JSON Schema is one.")
    return schema


def guides_of(model: LanguageModel) -> Guides:
    """What makes guides for ``model``: made once, since it takes a second for a large vocabulary."""
    if model.guides is None:
        model.guides = Guides(model.text, model.config.vocab_size)
    assert isinstance(model.guides, Guides)
    return model.guides


class Guides:
    """Makes guides for one vocabulary; ``width`` is the length of its rows of logits."""

    def __init__(self, text: Text, width: int) -> None:
        self._width = width
        self._end = end_of_turn(text)
        self._ends = text.tokenizer.eos_ids
        self._tokenizer = LLTokenizer(TokenizerWrapper(_Wrapped(text.tokenizer, self._end)))

    def json_schema(self, schema: Mapping[str, Any]) -> GrammarGuide:
        """A guide for one answer, which will be JSON without needless spaces. Raises :class:`GrammarError`."""
        return self._guide(
            json.dumps(schema),
            lambda written: LLMatcher.grammar_from_json_schema(written, overrides={"whitespace_flexible": False}),
        )

    def regex(self, pattern: str) -> GrammarGuide:
        """A guide for one answer that matches ``pattern`` as a whole (no look-around). Raises :class:`GrammarError`."""
        return self._guide(pattern, LLMatcher.grammar_from_regex)

    def lark(self, grammar: str) -> GrammarGuide:
        """A guide for one answer in a context-free grammar, in llguidance's dialect of Lark. Raises
        :class:`GrammarError`.
        """
        return self._guide(grammar, LLMatcher.grammar_from_lark)

    def _guide(self, written: str, translate: Any) -> GrammarGuide:
        if (size := len(written.encode("utf-8", "replace"))) > MAX_GRAMMAR_BYTES:
            raise GrammarError(f"it has {size:,} bytes and at most {MAX_GRAMMAR_BYTES:,} are taken", too_large=True)
        try:
            limits = LLParserLimits(verbose_errors=False)
            matcher = LLMatcher(self._tokenizer, translate(written), log_level=0, limits=limits)
        except ValueError as error:
            raise GrammarError(_line(str(error))) from None
        probe = matcher.deep_copy()  # what the parser cannot hold shows where the first choice is
        while not probe.is_error() and (forced := probe.compute_ff_tokens()):
            probe.consume_tokens(forced)
        if probe.is_error():
            raise GrammarError(_line(probe.get_error()))
        return GrammarGuide(matcher, self._width, self._end, self._ends)


class GrammarGuide:
    """Implements :class:`~empu.engine.request.Guide` for one answer."""

    def __init__(self, matcher: LLMatcher, width: int, end: int, ends: frozenset[int]) -> None:
        self.until: Until | None = None
        self._matcher = matcher
        self._width = width
        self._end = end
        self._ends = sorted(end for end in ends if end < width)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """(V,): the tokens that keep the answer inside the grammar; any end of answer once it is complete."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        mask = np.zeros(self._width, dtype=np.bool_)
        count = min(self._width, len(bits))
        mask[:count] = bits[:count]
        mask[self._ends] = self._matcher.is_accepting()
        if not mask.any():
            raise GrammarError("no token of this model continues the answer within it")
        return mask

    def accept(self, token: int) -> None:
        """Go on behind ``token``. Raises :class:`GrammarError` where it leads out of the grammar."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise GrammarError(_line(self._matcher.get_error()))

    def forced(self) -> tuple[int, ...]:
        """The tokens that must come next, up to the next choice; the end of the answer where nothing else may come.
        They still have to be accepted.
        """
        if self._matcher.is_stopped():
            return (self._end,)
        return tuple(self._matcher.compute_ff_tokens())


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


def _line(text: str) -> str:
    """What llguidance says, in one line: of a picture of the place, with a mark under it, the words."""
    lines = (line.strip() for line in text.strip().splitlines())
    said = [line for line in lines if line and set(line) - set("^ ")]
    return " ".join(said[: 1 if not said or not said[0].endswith(":") else None]).rstrip(".")[:300]
