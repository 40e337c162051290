"""Tools as OpenAI's chat completions and responses describe them, and what a request means by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from empu.serving.errors import ProblemError
from empu.serving.tools.dialects import Choice, Form, Tool

MAX_TOOLS = 64
MAX_PARTS = 1000
"""Of one message."""
MAX_PROPERTIES = 200
"""Of one object; schemas, and what a call was given, may have more."""

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Strict(BaseModel):
    """Knows all of its properties, and takes no string for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _of_few(cls, value: Any) -> Any:
        """Each unknown property is an error of its own, and a body has room for hundreds of thousands."""
        if isinstance(value, dict) and len(value) > MAX_PROPERTIES:
            message = f"An object has {len(value):,} properties, and at most {MAX_PROPERTIES} are taken."
            raise ProblemError(400, message, code="too_many_properties")
        return value


class Body(Strict):
    """The body of a request: what it leaves out of a foreign interface stands beside its type."""

    ignored: ClassVar[tuple[str, ...]] = ()
    refused: ClassVar[tuple[str, ...]] = ()
    """Unless null, false or empty."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name in cls.refused:
            if value.get(name) not in (None, False, [], {}, "none"):
                raise ProblemError(400, f"{name} is not supported here; leave it out.", param=name, code="unsupported")
        return {key: item for key, item in value.items() if key not in cls.ignored and key not in cls.refused}


class Function(Strict):
    """A function that may be called. Its schema is always kept, whatever ``strict`` says."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    """A tool of a chat."""

    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    """Names a function."""

    name: Name


class NamedTool(Strict):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(Strict):
    """A function with its arguments, written as JSON."""

    name: Name
    arguments: str


class ToolCall(Strict):
    """A call in a message of the assistant."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None
    """Its place in the stream that it came from; some clients send it back."""

    def plain(self) -> dict[str, Any]:
        """As chat templates take it."""
        return call(self.id, self.function.name, self.function.arguments, "messages")


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of a request, its choice among them, and the form in which its model writes calls."""

    tools: Sequence[Tool]
    choice: Choice
    form: Form

    def grammar(self, text: Mapping[str, Any] | None) -> str:
        """What the answer is held to. Raises :class:`ProblemError` where two wishes cannot be told apart."""
        if text is not None and not self.form.tagged and not self.choice.must:
            message = "This model writes calls as JSON, so that tools and a form of the answer cannot be kept together."
            raise ProblemError(400, message, param="tools", code="unsupported")
        return self.form.grammar(self.tools, self.choice, text)


def tool(name: str, description: str | None, parameters: Mapping[str, Any] | None) -> Tool:
    """Checks that the schema is one of objects. Raises :class:`ProblemError`."""
    schema = {"type": "object", **(parameters or {"properties": {}, "additionalProperties": False})}
    if schema["type"] != "object":
        raise ProblemError(400, f"tools: the schema of {name} is not one of objects.", param="tools", code="schema")
    return Tool(name, description, schema)


def choose(tools: Sequence[Tool], mode: str, only: str | None, parallel: bool | None) -> tuple[list[Tool], Choice]:
    """The tools that count: all, or none for ``none``. Raises :class:`ProblemError` for a choice without its tool."""
    names = [one.name for one in tools]
    if len(set(names)) < len(names):
        raise ProblemError(400, "tools: two of the tools have the same name.", param="tools", code="invalid_value")
    if mode == "none":
        return [], Choice()
    if only is not None and only not in names:
        message = f"tool_choice names {only}, which is not among the tools."
        raise ProblemError(400, message, param="tool_choice", code="invalid_value")
    if mode == "required" and not tools:
        raise ProblemError(400, "tool_choice needs tools.", param="tool_choice", code="invalid_value")
    return list(tools), Choice(mode == "required", only, parallel is not False)


def call(id_: str, name: str, arguments: str, param: str) -> dict[str, Any]:
    """A call, as chat templates take it. Raises :class:`ProblemError` for arguments that are no object."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        message = f"{param}: the arguments of a call of {name} are not a JSON object."
        raise ProblemError(400, message, param=param, code="invalid_value")
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": value}}
