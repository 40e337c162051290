"""Tools in OpenAI's chat completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from empu.server.http.request_model import IgnoredModel, LenientModel
from empu.serving.tools.request import make_tool_call

MAX_TOOLS = 256

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(LenientModel):
    """A function that the model may call. Its schema is always enforced, whatever ``strict`` says."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(LenientModel):
    """A tool of a chat."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(LenientModel):
    """Name of a function."""

    name: ToolName


class NamedToolChoice(LenientModel):
    """The tool that must be called."""

    type: Literal["function"]
    function: FunctionName


def _tool_tag(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "ignored" if isinstance(kind, str) and kind != "function" else "function"


ChatTool = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[IgnoredModel, Tag("ignored")], Discriminator(_tool_tag)
]
"""A function, or a tool of OpenAI's servers, which is ignored: the model cannot call it."""

ToolChoiceField = Literal["none", "auto", "required"] | NamedToolChoice


class FunctionCall(LenientModel):
    """A function with its arguments, as JSON text."""

    name: ToolName
    arguments: str


class MessageToolCall(LenientModel):
    """A call in a message of the assistant."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None
    """Position in the stream that the call came from; some clients send it back."""

    def to_template(self) -> dict[str, Any]:
        """Return the form that chat templates expect."""
        return make_tool_call(self.id, self.function.name, self.function.arguments, "messages")
