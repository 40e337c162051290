"""The dialogue formats of Llama 2 and Llama 3, for Meta's folders, which have no chat template.

Sources: ``ChatFormat`` of Meta's ``llama_models.llama3`` and the dialogue code of Meta's ``llama`` repository. Both
tokenize header, content and tool calls separately, so that merges never cross their borders.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empu.errors import TemplateError
from empu.text.base import Message, Tokenizer
from empu.text.templates.jinja import check_messages


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A special token in a dialogue, by its name."""

    name: str


class MetaDialogue(ABC):
    """A dialogue as special tokens and texts. Each text is tokenized separately."""

    @abstractmethod
    def parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[str | SpecialToken]:
        """Yield the dialogue from its first token to its last."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """As in :class:`~empu.text.base.ChatTemplate`."""
        self._check(messages, tools)
        parts = self.parts(messages, add_generation_prompt)
        return "".join(part.name if isinstance(part, SpecialToken) else part for part in parts)

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """As in :class:`~empu.text.base.ChatEncoder`."""
        self._check(messages, tools)
        ids: list[int] = []
        for part in self.parts(messages, add_generation_prompt):
            ids += [tokenizer.special_tokens[part.name]] if isinstance(part, SpecialToken) else tokenizer.encode(part)
        return ids

    def _check(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> None:
        check_messages(messages)
        if tools:
            raise TemplateError(
                "Meta's dialogue format does not support tools; describe them in the system message, or use the "
                "model's Hugging Face or GGUF files, whose template supports them."
            )


class Llama3Dialogue(MetaDialogue):
    """``<|start_header_id|>role<|end_header_id|>``, an empty line, the content as it is, ``<|eot_id|>``."""

    def parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[str | SpecialToken]:
        yield SpecialToken("<|begin_of_text|>")
        for message in messages:
            role = str(message["role"])
            yield from self._header("ipython" if role == "tool" else role)
            yield from _texts(message.get("content"))
            if role == "assistant":
                yield from map(_tool_call, message.get("tool_calls") or ())
            yield SpecialToken("<|eot_id|>")
        if add_generation_prompt:
            yield from self._header("assistant")

    @staticmethod
    def _header(role: str) -> Iterator[str | SpecialToken]:
        yield SpecialToken("<|start_header_id|>")
        yield role
        yield SpecialToken("<|end_header_id|>")
        yield "\n\n"


class Llama2Dialogue(MetaDialogue):
    """``[INST] question [/INST] answer`` between ``<s>`` and ``</s>``.

    The system message is in the first question, between ``<<SYS>>`` and ``<</SYS>>``. User and assistant alternate.
    """

    def parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[str | SpecialToken]:
        turns = [(str(message["role"]), "".join(_texts(message.get("content")))) for message in messages]
        if turns[0][0] == "system":
            if len(turns) < 2:
                raise TemplateError("In Llama 2 the system message is part of the first question; add one.")
            turns[1] = (turns[1][0], f"<<SYS>>\n{turns[0][1]}\n<</SYS>>\n\n{turns[1][1]}")
            del turns[0]
        for i, (role, content) in enumerate(turns):
            if role != ("user", "assistant")[i % 2]:
                raise TemplateError(
                    f"In Llama 2's dialogues user and assistant alternate; message {i + 1} is from {role}."
                )
            if role == "user":
                answer = f" {turns[i + 1][1].strip()} " if i + 1 < len(turns) else ""
                yield SpecialToken("<s>")
                yield f"[INST] {content.strip()} [/INST]{answer}"
            else:
                yield SpecialToken("</s>")


def _texts(content: object) -> Iterator[str]:
    """Yield the texts of a content, which is a string or a list of text parts."""
    if content is None:
        return
    if isinstance(content, str):
        yield content
        return
    if not isinstance(content, Sequence):
        raise TemplateError("The content of a message must be a string or a list of text parts.")
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise TemplateError("This model reads text only; a message contains another kind of part.")
        yield part["text"]


def _tool_call(call: object) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise TemplateError("A tool call needs the name of its function.")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise TemplateError(f"The arguments of the call of {function['name']} are not JSON.") from None
    return json.dumps({"type": "function", "name": function["name"], "parameters": arguments})
