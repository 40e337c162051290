"""The requests of Anthropic's messages, property by property; facts after Anthropic's API reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from empu.engine.sampling import SamplingParams
from empu.server.openai.protocol import MAX_MESSAGES, MAX_STOP_LENGTH
from empu.server.openai.tool_protocol import MAX_PARTS, MAX_TOOLS, Body, Name, Strict, choose, tool
from empu.serving.errors import ProblemError
from empu.serving.sampling_defaults import drawing
from empu.serving.tools.dialects import Choice, Tool
from empu.text.base import Message

IGNORED = (
    "betas", "cache_control", "diagnostics", "inference_geo", "metadata", "service_tier", "speed", "user_profile_id",
    "workspace_id",
)  # fmt: skip
"""Properties that concern Anthropic's accounts, caches and data centres."""
REFUSED = ("container", "context_management", "mcp_servers")
MAX_STOPS = 16


class Block(Strict):
    """A block of text; what it says of caching is ignored."""

    type: Literal["text"]
    text: str
    cache_control: Any = None
    citations: None = None


class ToolUse(Strict):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: str = Field(min_length=1, max_length=200)
    name: Name
    input: dict[str, Any]
    cache_control: Any = None
    caller: Any = None


class ToolResult(Strict):
    """What a call gave. An error says so in its own words."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1, max_length=200)
    content: str | Annotated[list[Block], Field(max_length=MAX_PARTS, fail_fast=True)] = ""
    is_error: bool | None = None
    cache_control: Any = None


AnyBlock = Annotated[Block | ToolUse | ToolResult, Field(discriminator="type")]


class Turn(Strict):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[AnyBlock], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]

    def plain(self) -> list[Message]:
        """As chat templates take it: results of tools are messages of their own. Raises :class:`ProblemError`."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        text = "".join(block.text for block in self.content if isinstance(block, Block))
        used = [block for block in self.content if isinstance(block, ToolUse)]
        results = [block for block in self.content if isinstance(block, ToolResult)]
        if (used and self.role != "assistant") or (results and self.role != "user"):
            message = "messages: tool_use belongs to the assistant, and tool_result to the user."
            raise ProblemError(400, message, param="messages", code="invalid_value")
        if used:
            calls = [
                {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.input}}
                for one in used
            ]
            return [{"role": "assistant", "content": text, "tool_calls": calls}]
        answered: list[Message] = [
            {
                "role": "tool",
                "tool_call_id": one.tool_use_id,
                "content": ("Error: " * bool(one.is_error)) + _plain(one.content),
            }
            for one in results
        ]
        return [*answered, {"role": self.role, "content": text}] if text or not answered else answered


class AnthropicTool(Strict):
    """A function that may be called. Its schema is always kept, whatever ``strict`` says."""

    name: Name
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: Any = None
    eager_input_streaming: bool | None = None


class AnthropicChoice(Strict):
    """Which tools are to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Strict):
    """Only that there is none."""

    type: Literal["disabled"]


class JsonOutput(Strict):
    """JSON of a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    """The form of the answer. Nothing here thinks with more or less effort."""

    format: JsonOutput | None = None
    effort: None = None


class CountRequest(Body):
    """``POST /v1/messages/count_tokens``."""

    ignored = IGNORED
    refused = REFUSED

    model: str = Field(min_length=1, max_length=256)
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    system: str | Annotated[list[Block], Field(max_length=MAX_PARTS, fail_fast=True)] | None = None
    thinking: Thinking | None = None
    tools: Annotated[list[AnthropicTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: AnthropicChoice | None = None
    output_config: OutputConfig | None = None
    output_format: JsonOutput | None = None
    """The name that ``output_config.format`` had before."""

    @property
    def dialogue(self) -> list[Message]:
        """As chat templates take it. Raises :class:`ProblemError` when there is nothing to answer."""
        if self.messages[-1].role != "user":
            message = "messages ends with the assistant; an answer cannot be begun for the model, so end with the user."
            raise ProblemError(400, message, param="messages", code="unsupported")
        system: list[Message] = [{"role": "system", "content": _plain(self.system)}] if self.system else []
        return [*system, *(message for turn in self.messages for message in turn.plain())]

    @property
    def schema_(self) -> dict[str, Any] | None:
        """The schema that the answer must keep."""
        form = self.output_format or (self.output_config and self.output_config.format)
        return form.schema_ if form else None

    @property
    def offered(self) -> tuple[list[Tool], Choice]:
        """The tools, and the choice among them. Raises :class:`ProblemError`."""
        made = [tool(one.name, one.description, one.input_schema) for one in self.tools or []]
        if self.tool_choice is None:
            return choose(made, "auto", None, None)
        if (self.tool_choice.name is not None) != (self.tool_choice.type == "tool"):
            message = "tool_choice has a name where its type is tool, and only there."
            raise ProblemError(400, message, param="tool_choice", code="invalid_value")
        mode = {"auto": "auto", "none": "none"}.get(self.tool_choice.type, "required")
        return choose(made, mode, self.tool_choice.name, not self.tool_choice.disable_parallel_tool_use)


class MessagesRequest(CountRequest):
    """``POST /v1/messages``."""

    max_tokens: int = Field(ge=1, le=1 << 30)
    stop_sequences: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]],
            Field(max_length=MAX_STOPS, fail_fast=True),
        ]
        | None
    ) = None
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=1 << 30)

    @property
    def sampling(self) -> SamplingParams:
        """The parameters that the request means."""
        temperature, top_p = drawing(self.temperature, self.top_p)
        return SamplingParams(
            temperature=temperature,
            top_p=top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
        )


def _plain(content: str | list[Block]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)
