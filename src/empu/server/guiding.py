"""Answers that are held to a JSON Schema: the engine's guides, with refusals in the server's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from empu.engine import guided
from empu.engine.guided import GrammarError, GrammarGuide
from empu.server.problems import ProblemError


class Guides(guided.Guides):
    """Makes guides for one model."""

    def schema(self, schema: Mapping[str, Any], param: str) -> GrammarGuide:
        """A guide for one answer. Raises :class:`ProblemError` naming ``param`` for a schema that cannot be kept."""
        try:
            return self.json_schema(schema)
        except GrammarError as error:
            code = "grammar_too_large" if error.too_large else "schema"
            raise ProblemError(400, f"{param} cannot be kept: {error.reason}.", param=param, code=code) from None
