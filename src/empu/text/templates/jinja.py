"""Jinja chat templates from model files, rendered as in transformers, in a sandbox with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from empu.errors import TemplateError
from empu.text.base import Message

if TYPE_CHECKING:
    from jinja2 import Template

_MAX_SOURCE_CHARS = 256 * 1024
"""Length of a template. The longest in use have some ten thousand characters."""
_MAX_DEPTH = 64
"""Nesting of lists and objects in a message."""


class JinjaTemplate:
    """A chat template, with the variables that the tokenizer provides (``bos_token`` and so on)."""

    def __init__(
        self, source: str, variables: Mapping[str, str], where: str, *, tool_template: str | None = None
    ) -> None:
        """``tool_template`` is the template for dialogues with tools, if there is one. Compiled at first use."""
        self._sources = {False: source, True: tool_template if tool_template is not None else source}
        self._variables = dict(variables)
        self._where = where
        self._compiled: dict[str, Template] = {}

    def mentions(self, token: str) -> bool:
        """Return whether the template writes this text itself, or by the variable ``eos_token``."""
        source = self._sources[False]
        return token in source or ("eos_token" in source and self._variables.get("eos_token") == token)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return the dialogue as text. Raises :class:`TemplateError`."""
        from empu.text.sandbox.environment import render

        check_messages(messages)
        template = self._compile(self._sources[bool(tools)])
        # As in transformers, a key without a value counts as absent.
        cleaned = [{key: value for key, value in message.items() if value is not None} for message in messages]
        return render(
            template,
            {
                **self._variables,
                "messages": to_plain_json(cleaned),
                "tools": to_plain_json(tools) if tools is not None else None,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            },
            self._where,
        )

    def _compile(self, source: str) -> Template:
        from empu.text.sandbox.environment import compile_template

        if source not in self._compiled:
            if len(source) > _MAX_SOURCE_CHARS:
                raise TemplateError(
                    f"{self._where}: the chat template has {len(source):,} characters; at most {_MAX_SOURCE_CHARS:,} "
                    "are allowed."
                )
            self._compiled[source] = compile_template(source, self._where)
        return self._compiled[source]


def check_messages(messages: Sequence[Message]) -> None:
    """Raise :class:`TemplateError` unless there is at least one message and each is an object with a role."""
    if not messages:
        raise TemplateError("A dialogue needs at least one message.")
    for number, message in enumerate(messages, 1):
        unchecked: object = message  # callers may pass what a client sent
        if not isinstance(unchecked, Mapping) or not isinstance(unchecked.get("role"), str):
            raise TemplateError(f"Message {number} is not an object with a role and a content.")


def choose_template(templates: Mapping[str, object], variables: Mapping[str, str], where: str) -> JinjaTemplate | None:
    """Build the template of a model from its named templates: ``default``, and ``tool_use`` for dialogues with tools.

    Returns ``None`` if there is none or all are empty. Raises :class:`TemplateError` if one is not a string.
    """
    if not isinstance(templates.get("default"), str | None):
        raise TemplateError(f"{where}: chat_template is not a string; fetch the model again.")
    sources = {name: source for name, source in templates.items() if isinstance(source, str) and source.strip()}
    default = sources.get("default") or next(iter(sources.values()), None)
    if default is None:
        return None
    return JinjaTemplate(default, variables, where, tool_template=sources.get("tool_use"))


def to_plain_json(value: object, depth: int = 0) -> Any:
    """Return a copy of ``value`` that consists of plain JSON types, so that a template reaches no other methods.

    Raises :class:`TemplateError` for other types and for endless nesting.
    """
    if value is None or isinstance(value, bool):
        return value
    for type_ in (str, int, float):
        if isinstance(value, type_):
            return value if type(value) is type_ else type_(value)
    if depth > _MAX_DEPTH:
        raise TemplateError(f"A message nests lists and objects more than {_MAX_DEPTH} levels deep; make it flatter.")
    if isinstance(value, Mapping):
        return {to_plain_json(key, depth + 1): to_plain_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [to_plain_json(item, depth + 1) for item in value]
    raise TemplateError(
        f"A message contains a {type(value).__name__}; a message may contain only what JSON can express."
    )
