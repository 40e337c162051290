"""Grammars that hold an answer to a JSON Schema or to tool calls, with the errors of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from empu.engine.stop_strings import StopBoundary
from empu.engine.structured_output import GrammarCompiler, GrammarError, GrammarMatcher
from empu.serving.errors import RequestError
from empu.serving.schemas import close_objects

LLGUIDANCE_OPTIONS = "x-guidance"
"""Schema property that configures llguidance; it is removed, since clients must not relax the constraint."""


def compile_schema(compiler: GrammarCompiler, schema: Mapping[str, Any], param: str) -> GrammarMatcher:
    """Compile the grammar of one answer. Raises :class:`RequestError` naming ``param`` for an unsupported schema."""
    plain = close_objects({name: value for name, value in schema.items() if name != LLGUIDANCE_OPTIONS})
    return _compile(lambda: compiler.compile_json_schema(plain), param)


def compile_tool_grammar(compiler: GrammarCompiler, grammar: str, stop_boundary: StopBoundary) -> GrammarMatcher:
    """Compile the grammar of one answer that is text or, from ``stop_boundary`` on, tool calls.

    Raises :class:`RequestError` naming ``tools``.
    """
    matcher = _compile(lambda: compiler.compile_lark(grammar), "tools")
    matcher.stop_boundary = stop_boundary
    return matcher


def _compile(make: Callable[[], GrammarMatcher], param: str) -> GrammarMatcher:
    try:
        return make()
    except GrammarError as error:
        code = "grammar_too_large" if error.too_large else "schema"
        raise RequestError(400, f"{param} is not supported: {error.reason}.", param=param, code=code) from None
