"""Answers that are held to a JSON Schema: the engine's guides, with refusals in the server's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from empu.engine import structured_output
from empu.engine.stop_strings import Until
from empu.engine.structured_output import GrammarError, GrammarGuide
from empu.serving.errors import ProblemError

OPTIONS = "x-guidance"
"""With this property of a schema llguidance is told to be lenient, among other things; senders have no say in it."""


class Guides(structured_output.Guides):
    """Makes guides for one model."""

    def schema(self, schema: Mapping[str, Any], param: str) -> GrammarGuide:
        """A guide for one answer. Raises :class:`ProblemError` naming ``param`` for a schema that cannot be kept."""
        plain = {name: value for name, value in schema.items() if name != OPTIONS}
        return _named(lambda: self.json_schema(plain), param)

    def tools(self, grammar: str, until: Until) -> GrammarGuide:
        """A guide for one answer of text or, behind ``until``, calls of tools. Raises :class:`ProblemError` naming
        ``tools``.
        """
        guide = _named(lambda: self.lark(grammar), "tools")
        guide.until = until
        return guide


def _named(make: Callable[[], GrammarGuide], param: str) -> GrammarGuide:
    try:
        return make()
    except GrammarError as error:
        code = "grammar_too_large" if error.too_large else "schema"
        raise ProblemError(400, f"{param} cannot be kept: {error.reason}.", param=param, code=code) from None
