"""Chat templates in Jinja, as model files carry them: rendered as transformers does, in a sandbox with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from empu.errors import TemplateError
from empu.text.base import Message

if TYPE_CHECKING:
    from jinja2 import Template

_MOST_SOURCE = 256 * 1024
"""Characters of a template; the longest in use have some tens of thousands."""
_DEEPEST = 64
"""Levels of lists and objects in a message."""


class JinjaTemplate:
    """One template with the values that the tokenizer gives it (``bos_token`` and so on)."""

    def __init__(self, source: str, variables: Mapping[str, str], where: str, *, with_tools: str | None = None) -> None:
        """``with_tools`` is the template for dialogues with tools, where that is another. Nothing is compiled yet."""
        self._sources = {False: source, True: with_tools if with_tools is not None else source}
        self._variables = dict(variables)
        self._where = where
        self._compiled: dict[str, Template] = {}

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The dialogue as text; raises :class:`TemplateError`."""
        from empu.text.sandbox.environment import render

        check_messages(messages)
        template = self._compile(self._sources[bool(tools)])
        # As transformers does: a key without a value is as good as none.
        turns = [{key: value for key, value in message.items() if value is not None} for message in messages]
        return render(
            template,
            {
                **self._variables,
                "messages": plain(turns),
                "tools": plain(tools) if tools is not None else None,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            },
            self._where,
        )

    def _compile(self, source: str) -> Template:
        from empu.text.sandbox.environment import compile_template

        if source not in self._compiled:
            if len(source) > _MOST_SOURCE:
                raise TemplateError(
                    f"{self._where}: the chat template has {len(source):,} characters and at most {_MOST_SOURCE:,} are "
                    "taken."
                )
            self._compiled[source] = compile_template(source, self._where)
        return self._compiled[source]


def check_messages(messages: Sequence[Message]) -> None:
    """Raise :class:`TemplateError` unless there is a message and each is an object with a role."""
    if not messages:
        raise TemplateError("A dialogue needs at least one message.")
    for number, message in enumerate(messages, 1):
        turn: object = message  # callers may pass what a client sent
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
            raise TemplateError(f"Message {number} is not an object with a role and a content.")


def choose_template(found: Mapping[str, object], variables: Mapping[str, str], where: str) -> JinjaTemplate | None:
    """From named templates the one for dialogues (``default``) and the one for dialogues with tools (``tool_use``);
    ``None`` when there is none, or nothing in it. Raises :class:`TemplateError` for one that is no text.
    """
    if not isinstance(found.get("default"), str | None):
        raise TemplateError(f"{where}: chat_template is no text; fetch the model again.")
    sources = {name: source for name, source in found.items() if isinstance(source, str) and source.strip()}
    default = sources.get("default") or next(iter(sources.values()), None)
    if default is None:
        return None
    return JinjaTemplate(default, variables, where, with_tools=sources.get("tool_use"))


def plain(value: object, depth: int = 0) -> Any:
    """``value`` rebuilt from the plain types of JSON, so that a template meets no other object's methods.

    Raises :class:`TemplateError` for other types and for values without end.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)
    if depth > _DEEPEST:
        raise TemplateError(f"A message nests lists and objects more than {_DEEPEST} levels deep; make it flatter.")
    if isinstance(value, Mapping):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item, depth + 1) for item in value]
    raise TemplateError(f"A message holds a {type(value).__name__}; only what JSON can hold may stand in a message.")
