"""Request of OpenAI's chat completions. Source: OpenAI's API reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from empu.server.http.request_model import IgnoredModel, LenientModel
from empu.server.http.request_variants import ONLY_TEXT, UNLIMITED_TOKENS
from empu.server.openai.protocol.formats import ObjectFormat, TextFormat
from empu.server.openai.protocol.sampling import SamplingRequest
from empu.server.openai.protocol.tools import (
    MAX_TOOLS,
    ChatTool,
    FunctionCall,
    FunctionDefinition,
    FunctionName,
    FunctionTool,
    MessageToolCall,
    NamedToolChoice,
    ToolChoiceField,
)
from empu.serving.errors import RequestError
from empu.serving.tools.request import make_tool, make_tool_call, make_tool_set
from empu.serving.tools.types import ToolSet
from empu.text.base import Message

MAX_MESSAGES = 1000
MAX_PARTS = 1000
"""Parts of one message."""
MAX_TOP_LOGPROBS = 20


class TextPart(LenientModel):
    """A part of a message. A refusal counts as text."""

    type: Literal["text", "refusal"] = "text"
    text: str = ""
    refusal: str = ""


def _part_tag(part: Any) -> str | None:
    kind = part.get("type", "text") if isinstance(part, dict) else getattr(part, "type", None)
    if kind in ("text", "refusal"):
        return "text"
    return "ignored" if kind in ("reasoning", "thinking") else None


ContentPart = Annotated[
    Annotated[TextPart, Tag("text")] | Annotated[IgnoredModel, Tag("ignored")],
    Discriminator(_part_tag, custom_error_type="content_part", custom_error_message=ONLY_TEXT),
]


class ChatMessage(LenientModel):
    """One message. The role ``function`` and ``function_call`` are the former names of tools."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[ContentPart], Field(max_length=MAX_PARTS, fail_fast=True)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[MessageToolCall], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_call_id: str | None = Field(default=None, max_length=200)
    function_call: FunctionCall | None = None

    @model_validator(mode="after")
    def _check_role(self) -> ChatMessage:
        has_calls = bool(self.tool_calls or self.function_call)
        if "content" not in self.model_fields_set and not has_calls:
            raise ValueError("a message needs content")
        if has_calls and self.role != "assistant":
            raise ValueError("only a message of the assistant may have tool_calls")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message of a tool needs a tool_call_id")
        return self

    def to_template(self) -> Message:
        """Return the form that chat templates expect.

        Raises :class:`RequestError` if the arguments of a call are not a JSON object.
        """
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(_part_text(part) for part in content)
        role = {"developer": "system", "function": "tool"}.get(self.role, self.role)
        message: dict[str, Any] = {"role": role, "content": text}
        calls = [call.to_template() for call in self.tool_calls or []]
        if self.function_call is not None:
            name, arguments = self.function_call.name, self.function_call.arguments
            calls.append(make_tool_call(_function_id(name), name, arguments, "messages"))
        if calls:
            message["tool_calls"] = calls
        if role == "tool":
            message["tool_call_id"] = self.tool_call_id or _function_id(self.name)
        return message


def _part_text(part: TextPart | IgnoredModel) -> str:
    return (part.text or part.refusal) if isinstance(part, TextPart) else ""


def _function_id(name: str | None) -> str:
    """Return an id for a call in the former form, which has none."""
    return f"call_{name}"


class NamedJsonSchema(LenientModel):
    """A JSON Schema. Its name has no effect."""

    name: str = ""
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict)
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(LenientModel):
    """JSON that matches a schema. It is always enforced, whatever ``strict`` says."""

    type: Literal["json_schema"]
    json_schema: NamedJsonSchema


class ChatRequest(SamplingRequest):
    """``POST /v1/chat/completions``. ``guided_json`` is an addition of vLLM."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=UNLIMITED_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = Field(default=None, discriminator="type")
    guided_json: dict[str, Any] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    tools: Annotated[list[ChatTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    function_call: Literal["none", "auto"] | FunctionName | None = None

    @property
    def uses_functions(self) -> bool:
        """Whether the request has ``functions``, the former form of ``tools``; then the answer has that form too."""
        return bool(self.functions) and not self.tools

    @property
    def tool_set(self) -> ToolSet:
        """The tools with the choice among them. Raises :class:`RequestError`."""
        choice: str | NamedToolChoice | FunctionName | None = self.tool_choice
        if self.uses_functions:
            functions, choice = self.functions or [], self.function_call
        else:
            functions = [tool.function for tool in self.tools or [] if isinstance(tool, FunctionTool)]
        tools = [make_tool(function.name, function.description, function.parameters) for function in functions]
        name = choice.function.name if isinstance(choice, NamedToolChoice) else None
        name = choice.name if isinstance(choice, FunctionName) else name
        mode = choice if isinstance(choice, str) else "required" if name else "auto"
        tool_set = make_tool_set(tools, mode, name, False if self.uses_functions else self.parallel_tool_calls)
        if tool_set.tools and self.logprobs:
            message = "logprobs is not supported together with tools."
            raise RequestError(400, message, param="logprobs", code="unsupported")
        return tool_set

    @property
    def num_logprobs(self) -> int | None:
        """Number of alternatives for each token; ``None``: no log-probabilities. Raises :class:`RequestError`."""
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            message = "top_logprobs needs logprobs: true."
            raise RequestError(400, message, param="top_logprobs", code="invalid_value")
        return None

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the answer."""
        if isinstance(self.response_format, SchemaFormat):
            return self.response_format.json_schema.schema_
        if isinstance(self.response_format, ObjectFormat):
            return self.response_format.answer_schema
        return self.guided_json
