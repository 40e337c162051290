"""Formats and content that chat completions and responses share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from empu.server.http.request_model import LenientModel


class TextFormat(LenientModel):
    """Plain text."""

    type: Literal["text"]


class ObjectFormat(LenientModel):
    """Any JSON object, or one that matches ``schema`` (an addition of llama.cpp)."""

    type: Literal["json_object"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    @property
    def answer_schema(self) -> dict[str, Any]:
        """The JSON Schema of the answer."""
        return self.schema_ or {"type": "object"}
