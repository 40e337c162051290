"""Requests of Anthropic's messages. Source: Anthropic's API reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from empu.engine.sampling import SamplingParams
from empu.server.http.request_model import IgnoredModel, LenientModel, RequestBody
from empu.server.http.request_variants import MAX_TEMPERATURE, ONLY_TEXT, UNLIMITED_TOKENS, normalise_sampling
from empu.serving.errors import RequestError
from empu.serving.sampling_defaults import apply_sampling_defaults
from empu.serving.tools.request import make_tool, make_tool_set
from empu.serving.tools.types import ToolSet
from empu.text.base import Message

MAX_MESSAGES = 1000
MAX_BLOCKS = 1000
"""Content blocks of one message."""
MAX_TOOLS = 256
MAX_STOP_SEQUENCES = 16
MAX_STOP_LENGTH = 200

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
StopSequence = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]


class TextBlock(LenientModel):
    """Text."""

    type: Literal["text"]
    text: str


def _text_tag(block: Any) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return "text" if kind == "text" else None


ResultBlock = Annotated[
    Annotated[TextBlock, Tag("text")],
    Discriminator(_text_tag, custom_error_type="content_block", custom_error_message=ONLY_TEXT),
]


class ToolUseBlock(LenientModel):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: str = Field(min_length=1, max_length=200)
    name: ToolName
    input: dict[str, Any]


class ToolResultBlock(LenientModel):
    """The result of a call. The text of an error gets a prefix."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1, max_length=200)
    content: str | Annotated[list[ResultBlock], Field(max_length=MAX_BLOCKS, fail_fast=True)] = ""
    is_error: bool | None = None

    @property
    def text(self) -> str:
        """The result as text."""
        return ("Error: " if self.is_error else "") + _join_text(self.content)


def _block_tag(block: Any) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    if kind in ("text", "tool_use", "tool_result"):
        return str(kind)
    return "ignored" if kind in ("thinking", "redacted_thinking") else None


ContentBlock = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[IgnoredModel, Tag("ignored")],
    Discriminator(_block_tag, custom_error_type="content_block", custom_error_message=ONLY_TEXT),
]


class InputMessage(LenientModel):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[ContentBlock], Field(max_length=MAX_BLOCKS, fail_fast=True)]

    def to_template(self) -> list[Message]:
        """Return the messages in the form that chat templates expect: each tool result is a message of its own.

        Raises :class:`RequestError` for blocks that do not belong to the role.
        """
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        text = "".join(block.text for block in self.content if isinstance(block, TextBlock))
        uses = [block for block in self.content if isinstance(block, ToolUseBlock)]
        results = [block for block in self.content if isinstance(block, ToolResultBlock)]
        if (uses and self.role != "assistant") or (results and self.role != "user"):
            message = "messages: tool_use belongs to the assistant, and tool_result to the user."
            raise RequestError(400, message, param="messages", code="invalid_value")
        if uses:
            calls = [
                {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.input}}
                for use in uses
            ]
            return [{"role": "assistant", "content": text, "tool_calls": calls}]
        messages: list[Message] = [
            {"role": "tool", "tool_call_id": result.tool_use_id, "content": result.text} for result in results
        ]
        if text or not results:
            messages.append({"role": self.role, "content": text})
        return messages


class ToolDefinition(LenientModel):
    """A function that the model may call. Its schema is always enforced, whatever ``strict`` says."""

    name: ToolName
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None


def _tool_tag(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "ignored" if isinstance(kind, str) and kind != "custom" else "custom"


AnyTool = Annotated[
    Annotated[ToolDefinition, Tag("custom")] | Annotated[IgnoredModel, Tag("ignored")], Discriminator(_tool_tag)
]
"""A function, or a tool of Anthropic's servers, which is ignored: the model cannot call it."""


class ToolChoiceField(LenientModel):
    """Which tools must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class SchemaFormat(LenientModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(LenientModel):
    """Format of the answer. ``effort`` is ignored: the models here do not think."""

    format: SchemaFormat | None = None


class CountTokensRequest(RequestBody):
    """``POST /v1/messages/count_tokens``."""

    ignored = (
        "betas", "cache_control", "context_management", "diagnostics", "inference_geo", "metadata", "service_tier",
        "speed", "thinking", "user_profile_id", "workspace_id",
    )  # fmt: skip
    """Properties about Anthropic's accounts, caches, data centres and thinking models."""
    refused = ("container", "mcp_servers")

    model: str = Field(min_length=1, max_length=256)
    messages: list[InputMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    system: str | Annotated[list[TextBlock], Field(max_length=MAX_BLOCKS, fail_fast=True)] | None = None
    tools: Annotated[list[AnyTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoiceField | None = None
    output_config: OutputConfig | None = None
    output_format: SchemaFormat | None = None
    """The former name of ``output_config.format``."""

    @model_validator(mode="before")
    @classmethod
    def _accept_common_variants(cls, value: Any) -> Any:
        return normalise_sampling(value) if isinstance(value, dict) else value

    @property
    def template_messages(self) -> list[Message]:
        """The dialogue in the form that chat templates expect. Raises :class:`RequestError`."""
        system: list[Message] = [{"role": "system", "content": _join_text(self.system)}] if self.system else []
        messages = [*system, *(item for message in self.messages for item in message.to_template())]
        if all(message["role"] == "system" for message in messages):
            text = "messages: there are only system messages; add a message of the user."
            raise RequestError(400, text, param="messages", code="invalid_value")
        return messages

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the answer."""
        answer_format = self.output_format or (self.output_config and self.output_config.format)
        return answer_format.schema_ if answer_format else None

    @property
    def tool_set(self) -> ToolSet:
        """The tools with the choice among them. Raises :class:`RequestError`."""
        definitions = [tool for tool in self.tools or [] if isinstance(tool, ToolDefinition)]
        tools = [make_tool(tool.name, tool.description, tool.input_schema) for tool in definitions]
        choice = self.tool_choice
        if choice is None:
            return make_tool_set(tools, "auto", None, None)
        if (choice.name is not None) != (choice.type == "tool"):
            message = "tool_choice: a name belongs to the type tool, and to no other."
            raise RequestError(400, message, param="tool_choice", code="invalid_value")
        mode = {"auto": "auto", "none": "none"}.get(choice.type, "required")
        return make_tool_set(tools, mode, choice.name, not choice.disable_parallel_tool_use)


class MessagesRequest(CountTokensRequest):
    """``POST /v1/messages``."""

    max_tokens: int = Field(ge=1, le=UNLIMITED_TOKENS)
    stop_sequences: Annotated[list[StopSequence], Field(max_length=MAX_STOP_SEQUENCES, fail_fast=True)] | None = None
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=MAX_TEMPERATURE)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=1 << 30)

    @property
    def sampling_params(self) -> SamplingParams:
        """The sampling parameters, with defaults."""
        temperature, top_p = apply_sampling_defaults(self.temperature, self.top_p)
        return SamplingParams(
            temperature=temperature,
            top_p=top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
        )


def _join_text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)
