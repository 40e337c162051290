"""The requests of OpenAI's chat and text completions, property by property.

Facts after OpenAI's API reference. Every property is honoured, refused by name, or stands in ``IGNORED``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from empu.engine.sampling import USUAL_TOKENS, SamplingParams
from empu.server.openai.tool_protocol import (
    MAX_PARTS,
    MAX_TOOLS,
    Body,
    FunctionTool,
    NamedTool,
    Strict,
    ToolCall,
    ToolChoice,
    choose,
    tool,
)
from empu.serving.errors import ProblemError
from empu.serving.sampling_defaults import drawing
from empu.serving.tools.dialects import Choice, Tool
from empu.text.base import Message

IGNORED = (
    "metadata", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
    "service_tier", "store", "user",
)  # fmt: skip
"""Properties that change nothing here: they concern OpenAI's accounts, its caches and its data centres."""

REFUSED = (
    "audio", "function_call", "functions", "logit_bias", "reasoning_effort", "verbosity", "web_search_options",
    "suffix", "moderation",
)  # fmt: skip
"""Properties that Empu cannot keep; they are refused unless they are null or empty."""

MAX_N = 8
MAX_STOPS = 4
MAX_STOP_LENGTH = 200
MAX_PROMPTS = 16
MAX_MESSAGES = 1000

Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)] | None = None
    name: str | None = None
    refusal: None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_call_id: str | None = Field(default=None, min_length=1, max_length=200)
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> ChatMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant has tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of a tool, and no other, has a tool_call_id")
        return self

    def plain(self) -> Message:
        """As chat templates take it. Raises :class:`ProblemError` for arguments that are no object."""
        given = self.content or ""
        text = given if isinstance(given, str) else "".join(part.text for part in given)
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.tool_calls:
            message["tool_calls"] = [made.plain() for made in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message


class JsonSchema(Strict):
    """A schema with its name."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict)
    description: str | None = None
    strict: bool | None = None


class TextFormat(Strict):
    """No form."""

    type: Literal["text"]


class ObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Strict):
    """JSON of a schema. It is always kept, whatever ``strict`` says."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(Strict):
    """What a stream carries besides."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Common(Body):
    """What both interfaces share. ``top_k``, ``min_p`` and ``repetition_penalty`` are additions of Empu."""

    ignored = IGNORED
    refused = REFUSED

    model: str = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1, le=1 << 30)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=1 << 30)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    n: int | None = Field(default=None, ge=1, le=MAX_N)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS, fail_fast=True)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_belong_to_streams(self) -> Common:
        if self.stream_options is not None and not self.stream:
            raise ProblemError(
                400, "stream_options has no meaning without stream: true.", param="stream_options", code="invalid_value"
            )
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def sampling(self, *, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """The parameters that the request means."""
        temperature, top_p = drawing(self.temperature, self.top_p)
        return SamplingParams(
            temperature=temperature,
            top_p=top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=None if self.seed is None else self.seed & ((1 << 63) - 1),
            max_tokens=max_tokens or USUAL_TOKENS,
            stop=self.stops,
            logprobs=logprobs,
        )


class ChatRequest(Common):
    """``POST /v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1 << 30)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = Field(default=None, discriminator="type")
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def offered(self) -> tuple[list[Tool], Choice]:
        """The tools, and the choice among them. Raises :class:`ProblemError`."""
        made = [tool(one.function.name, one.function.description, one.function.parameters) for one in self.tools or []]
        only = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        mode = self.tool_choice if isinstance(self.tool_choice, str) else "required" if only else "auto"
        found = choose(made, mode, only, self.parallel_tool_calls)
        if found[0] and self.logprobs:
            raise ProblemError(
                400, "logprobs is not supported together with tools.", param="logprobs", code="unsupported"
            )
        return found

    @property
    def wanted_logprobs(self) -> int | None:
        """How many alternatives are wanted; ``None``: no log-probabilities. Raises :class:`ProblemError`."""
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs is not None:
            raise ProblemError(400, "top_logprobs needs logprobs: true.", param="top_logprobs", code="invalid_value")
        return None

    @property
    def schema_(self) -> dict[str, Any] | None:
        """The schema that the answer must keep."""
        if isinstance(self.response_format, SchemaFormat):
            return self.response_format.json_schema.schema_
        return {"type": "object"} if isinstance(self.response_format, ObjectFormat) else None


MAX_IDS = 1 << 20
"""More than any context holds."""
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1, max_length=MAX_IDS, fail_fast=True)]


class CompletionRequest(Common):
    """``POST /v1/completions``: text continued as it stands."""

    prompt: (
        str
        | Ids
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    best_of: int | None = Field(default=None, ge=1, le=MAX_N)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=5)

    @model_validator(mode="after")
    def _best_of_all(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ProblemError(400, "best_of is supported only where it equals n.", param="best_of", code="unsupported")
        if self.echo and self.logprobs is not None:
            raise ProblemError(400, "echo is not supported together with logprobs.", param="echo", code="unsupported")
        return self

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """Texts or token ids."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        several: list[Any] = list(given)
        return [several] if isinstance(several[0], int) else several
