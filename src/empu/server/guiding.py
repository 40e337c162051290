"""Answers that are held to a JSON Schema: the engine's guides, with refusals in the server's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from empu.engine import guided
from empu.engine.guided import GrammarError, GrammarGuide
from empu.server.problems import ProblemError


class Guides(guided.Guides):
    """Makes guides for one model."""

    def schema(self, schema: Mapping[str, Any], param: str) -> GrammarGuide:
        """A guide for one answer. Raises :class:`ProblemError` naming ``param`` for a schema that cannot be kept."""
        return _named(lambda: self.json_schema(schema), param)

    def tools(self, grammar: str) -> GrammarGuide:
        """A guide for one answer of text or calls of tools. Raises :class:`ProblemError` naming ``tools``."""
        return _named(lambda: self.lark(grammar), "tools")


def _named(make: Callable[[], GrammarGuide], param: str) -> GrammarGuide:
    try:
        return make()
    except GrammarError as error:
        code = "grammar_too_large" if error.too_large else "schema"
        raise ProblemError(400, f"{param} cannot be kept: {error.reason}.", param=param, code=code) from None
