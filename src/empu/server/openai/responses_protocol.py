"""The requests of OpenAI's responses, property by property; facts after OpenAI's API reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from empu.engine.sampling import USUAL_TOKENS, SamplingParams
from empu.server.openai.protocol import MAX_MESSAGES, ObjectFormat, TextFormat
from empu.server.openai.tool_protocol import MAX_PARTS, MAX_TOOLS, Body, Name, Strict, call, choose, tool
from empu.serving.sampling_defaults import drawing
from empu.serving.tools.dialects import Choice, Tool
from empu.text.base import Message

IGNORED = (
    "access_programs", "background_options", "metadata", "prompt_cache_key", "prompt_cache_options",
    "prompt_cache_retention", "safety_identifier", "service_tier", "stream_options",
    "user",
)  # fmt: skip
"""Properties that concern OpenAI's accounts, its caches and its data centres."""
REFUSED = (
    "background", "context_management", "conversation", "image", "include", "max_tool_calls", "moderation",
    "previous_response_id", "prompt", "reasoning", "store", "top_logprobs",
)  # fmt: skip
"""Properties that Empu cannot keep: above all it stores no answers. Refused unless null, false, or empty."""


class InputText(Strict):
    """A part of a message, of the user's or the assistant's."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Strict):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[InputText], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def plain(self) -> Message:
        """As chat templates take it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": _text(self.content)}


class InputCall(Strict):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=200)
    name: Name
    arguments: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputResult(Strict):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=200)
    output: str | Annotated[list[InputText], Field(max_length=MAX_PARTS, fail_fast=True)]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


def _kind(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if kind in {"message", "function_call", "function_call_output"} else None


Item = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputResult, Tag("function_call_output")],
    Discriminator(
        _kind,
        custom_error_type="unknown_item",
        custom_error_message="only message, function_call and function_call_output are known here",
    ),
]


class ResponseTool(Strict):
    """A function that may be called. Its schema is always kept, whatever ``strict`` says."""

    type: Literal["function"]
    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class NamedFunction(Strict):
    """The one tool that is to be called."""

    type: Literal["function"]
    name: Name


class FlatSchemaFormat(Strict):
    """JSON of a schema. It is always kept, whatever ``strict`` says."""

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(Strict):
    """The form of the answer's text."""

    format: Annotated[TextFormat | ObjectFormat | FlatSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: None = None


class ResponsesRequest(Body):
    """``POST /v1/responses``. Nothing is stored, so that each request brings its whole dialogue."""

    ignored = IGNORED
    refused = REFUSED

    model: str = Field(min_length=1, max_length=256)
    input: str | Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=1 << 30)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stream: bool | None = None
    text: TextConfig | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None

    @property
    def dialogue(self) -> list[Message]:
        """As chat templates take it: calls that stand side by side are one turn. Raises :class:`ProblemError`."""
        turns: list[Message] = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*turns, {"role": "user", "content": self.input}]
        for item in self.input:
            if isinstance(item, InputMessage):
                turns.append(item.plain())
            elif isinstance(item, InputResult):
                turns.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
            else:
                made = call(item.call_id, item.name, item.arguments, "input")
                last = turns[-1] if turns and turns[-1]["role"] == "assistant" else None
                calls = [*(last or {}).get("tool_calls", []), made]
                turns = turns[:-1] if last is not None else turns
                turns.append({"role": "assistant", "content": (last or {}).get("content", ""), "tool_calls": calls})
        return turns

    @property
    def offered(self) -> tuple[list[Tool], Choice]:
        """The tools, and the choice among them. Raises :class:`ProblemError`."""
        made = [tool(one.name, one.description, one.parameters) for one in self.tools or []]
        only = self.tool_choice.name if isinstance(self.tool_choice, NamedFunction) else None
        mode = self.tool_choice if isinstance(self.tool_choice, str) else "required" if only else "auto"
        return choose(made, mode, only, self.parallel_tool_calls)

    @property
    def schema_(self) -> dict[str, Any] | None:
        """The schema that the answer must keep."""
        wanted = self.text.format if self.text is not None else None
        if isinstance(wanted, FlatSchemaFormat):
            return wanted.schema_
        return {"type": "object"} if isinstance(wanted, ObjectFormat) else None

    @property
    def sampling(self) -> SamplingParams:
        """The parameters that the request means."""
        temperature, top_p = drawing(self.temperature, self.top_p)
        return SamplingParams(temperature=temperature, top_p=top_p, max_tokens=self.max_output_tokens or USUAL_TOKENS)


def _text(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
