"""From a validated chat request to a stream of completions; every chat interface uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from empu.engine.generation import TokenConstraint
from empu.engine.prompt import EncodedPrompt
from empu.engine.sampling import SamplingParams
from empu.serving.completions import AnyStream, CompletionStream, Disconnect, LabelStream, expand_choices
from empu.serving.errors import RequestError
from empu.serving.grammars import compile_schema, compile_tool_grammar
from empu.serving.registry import MAX_TOP_LABELS, ServedModel
from empu.serving.tools.detection import detect_dialect
from empu.serving.tools.dialect import ToolDialect
from empu.serving.tools.grammar import answer_grammar
from empu.serving.tools.parser import ToolCallParser
from empu.serving.tools.prompt import render_tool_messages
from empu.serving.tools.types import ToolSet
from empu.text.base import Message


@dataclass(frozen=True, slots=True)
class ChatInput:
    """A chat request, whatever interface it came through."""

    messages: Sequence[Message]
    params: SamplingParams
    n: int = 1
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the answer."""
    tools: ToolSet = field(default_factory=ToolSet)
    schema_param: str = "response_format"
    """Name of the request's property that holds ``schema``."""
    stop_param: str = "stop"
    """Name of the request's property that holds the stop strings."""


@dataclass(frozen=True, slots=True)
class StartedChat:
    """The completions of a chat request."""

    stream: AnyStream
    dialect: ToolDialect | None = None
    """Dialect of the tool calls; ``None`` without tools."""
    ignored: tuple[str, ...] = ()
    """Properties of the request that have no effect for this model."""


async def start_chat(disconnect: Disconnect, served: ServedModel, chat: ChatInput) -> StartedChat:
    """Start ``chat.n`` completions. Raises :class:`RequestError` for what the model cannot do."""
    if served.label_task is not None:
        return StartedChat(await _classify(served, chat))
    check_logit_bias(served, chat.params)
    schema = chat.schema
    if schema is None and not chat.tools.tools:
        schema = tuned_schema(served)
    if schema is not None and is_prefilled(chat.messages):
        message = "The beginning of an answer cannot be combined with a JSON format; leave one of them out."
        raise RequestError(400, message, param=chat.schema_param, code="unsupported")
    params = chat.params
    ignored: tuple[str, ...] = ()
    if params.stop and (schema is not None or chat.tools.choice.required):
        params, ignored = replace(params, stop=()), (chat.stop_param,)  # the grammar ends the answer
    prompt, dialect = await encode_chat_prompt(served, chat.messages, chat.tools)
    constraints = await make_constraints(served, dialect, chat.tools, schema, chat.schema_param, chat.n)
    inputs = expand_choices(prompt, params, chat.n, constraints)
    if dialect is not None:
        inputs = [replace(item, is_done=_repetition_detector(dialect)) for item in inputs]
    stream = CompletionStream(disconnect, served, inputs)
    return StartedChat(stream, dialect, ignored)


def _repetition_detector(dialect: ToolDialect) -> Callable[[str], bool]:
    """Return a function of the pieces of an answer: whether a tool call repeated an earlier one."""
    parser = ToolCallParser(dialect)

    def has_repeated(text: str) -> bool:
        for _ in parser.feed(text):
            pass
        return parser.has_repeated

    return has_repeated


def check_logit_bias(served: ServedModel, params: SamplingParams) -> None:
    """Raise :class:`RequestError` for a token outside the vocabulary."""
    vocab_size = served.model.config.vocab_size
    for token, _ in params.logit_bias:
        if token >= vocab_size:
            message = f"logit_bias names the token id {token}; the vocabulary has {vocab_size:,} tokens."
            raise RequestError(400, message, param="logit_bias", code="invalid_value")


def is_prefilled(messages: Sequence[Message]) -> bool:
    """Return whether the last message is the beginning of the answer, which the model continues."""
    return bool(messages) and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls")


async def encode_chat_prompt(
    served: ServedModel, messages: Sequence[Message], tools: ToolSet
) -> tuple[EncodedPrompt, ToolDialect | None]:
    """Return the token ids of a dialogue with its tools, and the dialect of the calls if tools are offered.

    If the last message is of the assistant, its text follows the beginning of the answer.
    """
    turns = add_instruction(served, messages)
    if is_prefilled(turns):
        prompt, dialect = await encode_chat_prompt(served, turns[:-1], tools)
        return await served.extend(prompt, str(turns[-1]["content"])), dialect
    has_calls = any(message["role"] == "tool" or message.get("tool_calls") for message in turns)
    if not tools.tools and not has_calls:
        return await served.encode(served.model.format_prompt(turns)), None
    dialect = detect_dialect(served.model.text.template)
    definitions = [tool.to_template() for tool in tools.tools] if dialect.is_native else []
    prompt = await served.encode(render_tool_messages(dialect, turns, tools), definitions or None)
    return prompt, dialect if tools.tools else None


async def _classify(served: ServedModel, chat: ChatInput) -> LabelStream:
    """Classify the last user message. Raises :class:`RequestError` for what a label specialist cannot do."""
    if chat.tools.tools:
        raise RequestError(400, f"{served.name} answers with labels and cannot call tools.", param="tools")
    if chat.n != 1:
        message = f"{served.name} answers with one label; n must be 1."
        raise RequestError(400, message, param="n", code="unsupported")
    if chat.schema is not None:
        message = f"{served.name} answers with one of its labels and supports no other format."
        raise RequestError(400, message, param=chat.schema_param, code="unsupported")
    texts = [str(message["content"]) for message in chat.messages if message["role"] == "user"]
    if not texts:
        raise RequestError(400, "There is no user message to classify.", param="messages", code="invalid_value")
    top_logprobs = chat.params.logprobs
    count = min(MAX_TOP_LABELS, max(1, top_logprobs or 0))
    ranked, prompt_tokens, completion_tokens = await served.classify(texts[-1], count)
    is_out_of_scope = served.label_task is not None and served.label_task.is_below_threshold(ranked[0].confidence)
    return LabelStream(ranked, prompt_tokens, completion_tokens, top_logprobs, is_out_of_scope=is_out_of_scope)


def add_instruction(served: ServedModel, messages: Sequence[Message]) -> list[Message]:
    """Put a specialist's own instruction first, unless the request has a system message."""
    task = served.model.task
    if task is None or any(message["role"] == "system" for message in messages):
        return list(messages)
    return [*task.messages("")[:-1], *messages]


def confidence_fields(stream: AnyStream) -> dict[str, Any]:
    """Return Empu's additions to a response: the confidence of a label specialist, and its out-of-scope result."""
    if stream.confidence is None:
        return {}
    fields: dict[str, Any] = {"confidence": stream.confidence}
    if stream.closest_label is not None:
        fields |= {"out_of_scope": True, "closest": stream.closest_label}
    return fields


def tuned_schema(served: ServedModel) -> Mapping[str, Any] | None:
    """Return the JSON Schema that a specialist was tuned for."""
    return served.model.task.schema if served.model.task is not None else None


async def make_constraints(
    served: ServedModel,
    dialect: ToolDialect | None,
    tools: ToolSet,
    schema: Mapping[str, Any] | None,
    schema_param: str,
    n: int,
) -> Sequence[TokenConstraint | None]:
    """Compile one constraint for each completion, in another thread, since a large grammar takes time."""
    if dialect is None and schema is None:
        return [None] * n
    grammar = answer_grammar(dialect, tools, schema) if dialect is not None else ""

    def make() -> TokenConstraint:
        if dialect is not None:
            return compile_tool_grammar(served.grammar_compiler, grammar, dialect.stop_boundary)
        return compile_schema(served.grammar_compiler, schema or {}, schema_param)

    return await asyncio.to_thread(lambda: [make() for _ in range(n)])
