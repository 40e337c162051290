"""Tools that a model may call, independent of interface and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; ``parameters`` is the JSON Schema of its arguments."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]

    def to_template(self) -> dict[str, Any]:
        """Return the definition in the form that chat templates expect."""
        description = {"description": self.description} if self.description is not None else {}
        return {"type": "function", "function": {"name": self.name, **description, "parameters": dict(self.parameters)}}


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model must call a tool, and whether it may make several calls.

    ``name``: the model must call this tool, once.
    """

    required: bool = False
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools of a request and the choice among them."""

    tools: Sequence[Tool] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)

    @property
    def callable_tools(self) -> list[Tool]:
        """The tools that the choice allows."""
        return [tool for tool in self.tools if self.choice.name in (None, tool.name)]
