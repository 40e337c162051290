"""From a checked request to answers on their way: the part that every interface for dialogues shares."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from empu.engine.generation import Guide
from empu.engine.prompt import Prompt
from empu.engine.sampling import SamplingParams
from empu.server.openai.tool_protocol import Offer
from empu.serving.completions import Answers, AnyAnswers, LabelAnswers, alike
from empu.serving.errors import ProblemError
from empu.serving.registry import ALTERNATIVES, Served
from empu.serving.tools.dialects import Choice, Form, Tool, dialogue, form_of
from empu.text.base import Message

Json = dict[str, Any]


async def ask(
    request: Request,
    served: Served,
    messages: Sequence[Message],
    params: SamplingParams,
    *,
    n: int = 1,
    schema: Mapping[str, Any] | None = None,
    param: str = "response_format",
    stop: str = "stop",
    tools: tuple[Sequence[Tool], Choice] = ((), Choice()),
) -> tuple[AnyAnswers, Form | None]:
    """``n`` answers to a dialogue, and the form in which they hold calls of tools (``None``: they hold none).

    ``param`` and ``stop`` are the properties that hold ``schema`` and the stop strings. Raises :class:`ProblemError`
    for what cannot be kept.
    """
    if served.label_task is not None:
        if tools[0]:
            raise ProblemError(400, f"{served.name} answers with labels and calls no tools.", param="tools")
        return await judge(served, messages, params, n, None if schema is None else param), None
    own = own_schema(served) if schema is None and not tools[0] else None
    if schema is not None:
        no_stops(params, f"the form that {param} demands", stop)
    elif own is not None:
        no_stops(params, f"the form that {served.name} was tuned to", stop)
    elif tools[1].must:
        no_stops(params, "the call that tool_choice demands", stop)
    prompt, form = await encode(served, messages, tools)
    offer = Offer(*tools, form) if form is not None else None
    guides = await make_guides(served, offer, schema if own is None else own, param, n)
    return Answers(request, served, alike(prompt, params, n, guides)), form


def no_stops(params: SamplingParams, cut: str, stop: str = "stop") -> None:
    """Refuse stop strings, which would ``cut`` what has to stand whole."""
    if params.stop:
        raise ProblemError(400, f"{stop} would cut {cut}; leave one of them out.", param=stop, code="unsupported")


async def encode(
    served: Served, messages: Sequence[Message], tools: tuple[Sequence[Tool], Choice] = ((), Choice())
) -> tuple[Prompt, Form | None]:
    """Token ids of a dialogue and its tools. A specialist's dialogue begins as it was tuned."""
    turns = with_instruction(served, messages)
    offered, choice = tools
    called = any(message["role"] == "tool" or message.get("tool_calls") for message in turns)
    if not offered and not called:
        return await served.encode(served.model.worded(turns)), None
    form = form_of(served.model.text.template)
    described = [tool.described() for tool in offered] if form.native else []
    prompt = await served.encode(dialogue(form, turns, offered, choice), described or None)
    return prompt, form if offered else None


async def judge(
    served: Served, messages: Sequence[Message], params: SamplingParams, n: int, guided: str | None
) -> LabelAnswers:
    """The label of the last user's message. Raises :class:`ProblemError` for what labels cannot keep; ``guided`` is
    the property that asks for another form.
    """
    if n != 1:
        raise ProblemError(400, f"{served.name} names one label; n must be 1.", param="n", code="unsupported")
    if guided is not None:
        message = f"{served.name} answers with one of its labels and keeps no other form."
        raise ProblemError(400, message, param=guided, code="unsupported")
    texts = [str(message["content"]) for message in messages if message["role"] == "user"]
    if not texts:
        raise ProblemError(400, "There is no message of a user to judge.", param="messages", code="invalid_value")
    verdicts, asked, answered = await served.judge(texts[-1], min(ALTERNATIVES, max(1, params.logprobs or 0)))
    refused = served.label_task is not None and served.label_task.refuses(verdicts[0].confidence)
    return LabelAnswers(verdicts, asked, answered, params.logprobs, refused=refused)


def with_instruction(served: Served, messages: Sequence[Message]) -> list[Message]:
    """A specialist's dialogue begins as it was tuned, unless the request brings a system message of its own."""
    task = served.model.task
    if task is None or any(message["role"] == "system" for message in messages):
        return list(messages)
    return [*task.messages("")[:-1], *messages]


def confidence(answers: AnyAnswers) -> Json:
    """How sure a specialist for labels is, and what it would have said where that is too little: an addition of Empu
    to the interfaces' answers.
    """
    if answers.confidence is None:
        return {}
    unsure = {"out_of_scope": True, "closest": answers.closest} if answers.closest is not None else {}
    return {"confidence": answers.confidence} | unsure


def own_schema(served: Served) -> Mapping[str, Any] | None:
    """The form that a specialist's answers keep whoever asks, unless the request brings a form or tools."""
    return served.model.task.schema if served.model.task is not None else None


async def make_guides(
    served: Served, offer: Offer | None, schema: Mapping[str, Any] | None, param: str, n: int
) -> Sequence[Guide | None]:
    """What holds each answer to its form; made in another thread, since a large grammar takes its time."""
    if offer is None and schema is None:
        return [None] * n
    grammar = offer.grammar(schema) if offer is not None else ""

    def make() -> Guide:
        if offer is not None:
            return served.guides.tools(grammar, offer.form.until)
        return served.guides.schema(schema or {}, param)

    return await asyncio.to_thread(lambda: [make() for _ in range(n)])
