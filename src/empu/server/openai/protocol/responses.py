"""Request of OpenAI's responses. Source: OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from empu.engine.sampling import DEFAULT_MAX_TOKENS, SamplingParams
from empu.server.http.request_model import IgnoredModel, LenientModel, RequestBody
from empu.server.http.request_variants import MAX_TEMPERATURE, ONLY_TEXT, UNLIMITED_TOKENS, normalise_sampling
from empu.server.openai.protocol.chat import MAX_MESSAGES, MAX_PARTS
from empu.server.openai.protocol.formats import ObjectFormat, TextFormat
from empu.server.openai.protocol.tools import MAX_TOOLS, ToolName
from empu.serving.errors import RequestError
from empu.serving.sampling_defaults import apply_sampling_defaults
from empu.serving.tools.request import make_tool, make_tool_call, make_tool_set
from empu.serving.tools.types import ToolSet
from empu.text.base import Message

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputText(LenientModel):
    """A part of a message of the user or the assistant."""

    type: Literal["input_text", "output_text", "text"]
    text: str


def _part_tag(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return "text" if kind in ("input_text", "output_text", "text") else None


InputPart = Annotated[
    Annotated[InputText, Tag("text")],
    Discriminator(_part_tag, custom_error_type="content_part", custom_error_message=ONLY_TEXT),
]


class InputMessage(LenientModel):
    """One message."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[InputPart], Field(max_length=MAX_PARTS, fail_fast=True)]
    id: str | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def to_template(self) -> Message:
        """Return the form that chat templates expect."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": _join_text(self.content)}


class InputFunctionCall(LenientModel):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=200)
    name: ToolName
    arguments: str
    id: str | None = None
    status: ItemStatus | None = None


class InputFunctionResult(LenientModel):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=200)
    output: str | Annotated[list[InputPart], Field(max_length=MAX_PARTS, fail_fast=True)]
    id: str | None = None
    status: ItemStatus | None = None


class ItemReference(LenientModel):
    """An output item of a stored response."""

    type: Literal["item_reference"]
    id: str = Field(min_length=1, max_length=200)


def _item_type(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    if kind in ("message", "function_call", "function_call_output", "item_reference"):
        return str(kind)
    return "ignored" if kind == "reasoning" else None


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputFunctionCall, Tag("function_call")]
    | Annotated[InputFunctionResult, Tag("function_call_output")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[IgnoredModel, Tag("ignored")],
    Discriminator(
        _item_type,
        custom_error_type="unknown_item",
        custom_error_message="only the item types message, function_call, function_call_output, item_reference and "
        "reasoning are supported",
    ),
]


class ResponsesTool(LenientModel):
    """A function that the model may call. Its schema is always enforced, whatever ``strict`` says."""

    type: Literal["function"]
    name: ToolName
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


def _tool_tag(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "ignored" if isinstance(kind, str) and kind != "function" else "function"


AnyTool = Annotated[
    Annotated[ResponsesTool, Tag("function")] | Annotated[IgnoredModel, Tag("ignored")], Discriminator(_tool_tag)
]
"""A function, or a tool of OpenAI's servers, which is ignored: the model cannot call it."""


class NamedFunctionChoice(LenientModel):
    """The function that must be called."""

    type: Literal["function"]
    name: ToolName


class ResponsesSchemaFormat(LenientModel):
    """JSON that matches a schema. It is always enforced, whatever ``strict`` says."""

    type: Literal["json_schema"]
    name: str = ""
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(LenientModel):
    """Format of the answer's text."""

    format: Annotated[TextFormat | ObjectFormat | ResponsesSchemaFormat, Field(discriminator="type")] | None = None


class ResponsesRequest(RequestBody):
    """``POST /v1/responses``."""

    ignored = (
        "access_programs", "background_options", "context_management", "include", "max_tool_calls", "metadata",
        "moderation", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning",
        "safety_identifier", "service_tier", "stream_options", "user",
    )  # fmt: skip
    """Properties about OpenAI's accounts, caches, data centres, built-in tools and reasoning models."""
    refused = ("background", "conversation", "image", "prompt", "top_logprobs")

    model: str = Field(min_length=1, max_length=256)
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=UNLIMITED_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=MAX_TEMPERATURE)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = Field(default=None, max_length=200)
    text: TextConfig | None = None
    tools: Annotated[list[AnyTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """Nothing is truncated: a prompt that is too long is refused."""

    @model_validator(mode="before")
    @classmethod
    def _accept_common_variants(cls, value: Any) -> Any:
        return normalise_sampling(value) if isinstance(value, dict) else value

    @property
    def system_messages(self) -> list[Message]:
        """The instructions in the form that chat templates expect."""
        return [{"role": "system", "content": self.instructions}] if self.instructions else []

    def input_messages(self, find_item: Callable[[str], dict[str, Any] | None]) -> list[Message]:
        """Return the input in the form that chat templates expect. ``find_item`` returns an item of a stored response.

        Raises :class:`RequestError` for an unknown item, and if the arguments of a call are not a JSON object.
        """
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        messages: list[Message] = []
        for item in self.input:
            if isinstance(item, ItemReference):
                if (stored := find_item(item.id)) is None:
                    message = f"input: there is no stored item {item.id}; send the item itself, with store: false."
                    raise RequestError(400, message, param="input", code="item_not_found")
                append_item(messages, output_to_input(stored))
            else:
                append_item(messages, item)
        return messages

    @property
    def tool_set(self) -> ToolSet:
        """The tools with the choice among them. Raises :class:`RequestError`."""
        functions = [tool for tool in self.tools or [] if isinstance(tool, ResponsesTool)]
        tools = [make_tool(function.name, function.description, function.parameters) for function in functions]
        name = self.tool_choice.name if isinstance(self.tool_choice, NamedFunctionChoice) else None
        mode = self.tool_choice if isinstance(self.tool_choice, str) else "required" if name else "auto"
        return make_tool_set(tools, mode, name, self.parallel_tool_calls)

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the answer."""
        answer_format = self.text.format if self.text is not None else None
        if isinstance(answer_format, ResponsesSchemaFormat):
            return answer_format.schema_
        return answer_format.answer_schema if isinstance(answer_format, ObjectFormat) else None

    @property
    def sampling_params(self) -> SamplingParams:
        """The sampling parameters, with defaults."""
        temperature, top_p = apply_sampling_defaults(self.temperature, self.top_p)
        return SamplingParams(
            temperature=temperature, top_p=top_p, max_tokens=self.max_output_tokens or DEFAULT_MAX_TOKENS
        )


def output_to_input(item: dict[str, Any]) -> InputMessage | InputFunctionCall:
    """Return an output item of a response as an item of an input."""
    kind = InputFunctionCall if item["type"] == "function_call" else InputMessage
    return kind.model_validate(item)


def append_item(messages: list[Message], item: Any) -> None:
    """Append an item to messages for chat templates. Adjacent calls become one message. Ignored items are skipped."""
    if isinstance(item, InputMessage):
        messages.append(item.to_template())
    elif isinstance(item, InputFunctionResult):
        messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _join_text(item.output)})
    elif isinstance(item, InputFunctionCall):
        call = make_tool_call(item.call_id, item.name, item.arguments, "input")
        is_assistant = bool(messages) and messages[-1]["role"] == "assistant"
        previous: Message = messages.pop() if is_assistant else {"content": ""}
        calls = [*previous.get("tool_calls", []), call]
        messages.append({"role": "assistant", "content": previous["content"], "tool_calls": calls})


def _join_text(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
