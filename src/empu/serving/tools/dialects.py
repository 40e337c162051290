"""How a model writes calls of tools: found out from its chat template, said to it, and held to by a grammar.

Three forms are known: a tag around each call (Hermes, Qwen), one bare object (Llama 3), an array (Mistral). A template
that knows no tools gets the first, described in a plain system text; its calls and results then are turns of text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from empu.engine.stop_strings import Until
from empu.errors import EmpuError
from empu.text.base import ChatTemplate, Message

MAX_CALLS = 8
"""Calls in one answer."""
TAG = "<tool_call>"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; ``parameters`` is the JSON Schema of its arguments."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """As chat templates take it."""
        said = {"description": self.description} if self.description is not None else {}
        return {"type": "function", "function": {"name": self.name, **said, "parameters": dict(self.parameters)}}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model may do with its tools. ``only`` names the one that it has to call."""

    must: bool = False
    only: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Form:
    """``native``: the chat template itself writes tools, calls and results."""

    native: bool
    opening: str
    separator: str
    """Between two calls; empty where an answer has one at most."""
    closing: str
    arguments: str = "arguments"
    """The key under which arguments stand."""

    @property
    def tagged(self) -> bool:
        """Whether text may stand before a call. Other forms are known by how the answer begins."""
        return self.opening.startswith(TAG)

    @property
    def head(self) -> str:
        """How each call begins, up to its tool's name."""
        return '{"name": "'

    @property
    def middle(self) -> str:
        """What stands between a tool's name and its arguments."""
        return f'", "{self.arguments}": '

    @property
    def trigger(self) -> str:
        """What no text holds (tagged) or begins with (otherwise)."""
        return TAG if self.tagged else self.opening + self.head

    @property
    def until(self) -> Until:
        """Where a call begins, which no stop string cuts."""
        return Until(self.trigger, at_start=not self.tagged)

    def written(self, name: str, arguments: Any) -> str:
        """One call, without what stands around it."""
        return f"{self.head}{name}{self.middle}{json.dumps(arguments, ensure_ascii=False)}}}"

    def grammar(self, tools: Sequence[Tool], choice: Choice, text: Mapping[str, Any] | None) -> str:
        """In llguidance's Lark: an answer of text (of the schema ``text``, if one is given) or of calls whose arguments
        keep their tool's schema.
        """
        offered = [tool for tool in tools if choice.only in (None, tool.name)]
        more = f"({_quoted(self.separator)} call){{0,{MAX_CALLS - 1}}}" if choice.parallel and self.separator else ""
        rules = [f"call: {' | '.join(f'call_{i}' for i in range(len(offered)))}"]
        for i, tool in enumerate(offered):
            rules.append(f"call_{i}: {_quoted(self.head + tool.name + self.middle)} arguments_{i} {_quoted('}')}")
            rules.append(f"arguments_{i}: %json {_compact(tool.parameters)}")
        closing = f" {_quoted(self.closing)}" if self.closing else ""
        if choice.must:
            return "\n".join([f"start: {_quoted(self.opening)} calls" if self.opening else "start: calls",
                              f"calls: call {more}{closing}", *rules])  # fmt: skip
        free = f"text: %json {_compact(text)}" if text is not None else f"text: TEXT\nTEXT: {self._free()}"
        if self.tagged:
            rest = self.opening.removeprefix(TAG)
            begin = f"before {_quoted(rest)} calls\nbefore[lazy]: /(?s:.*){TAG}/"
            if text is not None:
                begin = f"{_quoted(self.opening)} calls"
        else:  # the opening and the first call are one lexeme, since a text may begin like the opening alone
            begin = f"first {more}{closing}"
            rules.append(f"first: {' | '.join(f'first_{i}' for i in range(len(offered)))}")
            for i, tool in enumerate(offered):
                head = _quoted(self.opening + self.head + tool.name + self.middle)
                rules.append(f"first_{i}: {head} arguments_{i} {_quoted('}')}")
        return "\n".join([f"start: text | {begin}", free, f"calls: call {more}{closing}", *rules])

    def _free(self) -> str:
        """Any text that is no call."""
        kept = "".join(f"\\x{ord(letter):02x}" for letter in self.trigger)
        return f"/(?s:.*)/ & ~/{'(?s:.*)' if self.tagged else ''}{kept}(?s:.*)/"


TAGGED = Form(False, f"{TAG}\n", f"\n</tool_call>\n{TAG}\n", "\n</tool_call>")


def form_of(template: ChatTemplate | None) -> Form:
    """How the model behind ``template`` writes calls; found by rendering a dialogue with one."""
    probe = Tool("probe_tool", "Probes.", {"type": "object", "properties": {"probed": {"type": "integer"}}})
    asked: Message = {"role": "user", "content": "Probe."}
    called: Message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "call12345", "type": "function", "function": {"name": probe.name, "arguments": {"probed": 1}}}
        ],
    }
    answered: Message = {"role": "tool", "name": probe.name, "tool_call_id": "call12345", "content": "probe_result"}
    if template is None:
        return TAGGED
    try:
        offered = template.render([asked], tools=[probe.described()])
        whole = template.render([asked, called, answered], tools=[probe.described()])
    except EmpuError:
        return TAGGED
    if probe.name not in offered or whole.count(probe.name) <= offered.count(probe.name) or "probe_result" not in whole:
        return TAGGED
    made = re.search(r'(?s:.{0,160})"probed":\s*1', whole)
    call = made[0] if made is not None else ""
    if TAG in call:
        return replace(TAGGED, native=True)
    if "[TOOL_CALLS]" in call:
        return Form(True, "[", ", ", "]")
    return Form(True, "", "", "", "parameters" if re.search(r'"parameters":\s*\{"probed"', call) else "arguments")


def instruction(form: Form, tools: Sequence[Tool], choice: Choice) -> str:
    """What the system message says of tools to a model whose template does not."""
    listed = "\n".join(json.dumps(tool.described()["function"], ensure_ascii=False) for tool in tools)
    example = f"{form.opening}{form.head}NAME{form.middle}{{...}}}}{form.closing}"
    rule = "Call a function when it helps to answer; otherwise answer in words."
    if choice.must:
        rule = f"Call the function {choice.only}." if choice.only is not None else "Call at least one function."
    return (
        f"You can call these functions, described by JSON Schema, one a line:\n{listed}\n"
        f"A call is written exactly so, and nothing stands behind it:\n{example}\n{rule}"
    )


def dialogue(form: Form, messages: Sequence[Message], tools: Sequence[Tool], choice: Choice) -> list[Message]:
    """``messages`` (as in OpenAI's chat, with decoded arguments) so that the template can take them."""
    if form.native:
        return [_short_ids(message) for message in messages] if form.opening == "[" else list(messages)
    turns: list[Message] = []
    for message in messages:
        text = str(message.get("content") or "")
        if message.get("tool_calls"):
            calls = [call["function"] for call in message["tool_calls"]]
            written = form.separator.join(form.written(call["name"], call["arguments"]) for call in calls)
            before = f"{text}\n" if text else ""
            turns.append({"role": "assistant", "content": f"{before}{form.opening}{written}{form.closing}"})
        elif message["role"] == "tool":
            result = f"<tool_response>\n{text}\n</tool_response>"
            if turns and turns[-1]["role"] == "user" and str(turns[-1]["content"]).endswith("</tool_response>"):
                result = f"{turns.pop()['content']}\n{result}"
            turns.append({"role": "user", "content": result})
        else:
            turns.append(message)
    if tools:
        said = instruction(form, tools, choice)
        if turns and turns[0]["role"] == "system":
            turns[0] = {"role": "system", "content": f"{turns[0]['content']}\n\n{said}"}
        else:
            turns.insert(0, {"role": "system", "content": said})
    return turns


def _short_ids(message: Message) -> Message:
    """Mistral's templates take ids of nine letters or digits only."""

    def short(name: str) -> str:
        return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:9]

    changed = dict(message)
    if changed.get("tool_calls"):
        changed["tool_calls"] = [{**call, "id": short(call["id"])} for call in changed["tool_calls"]]
    if "tool_call_id" in changed:
        changed["tool_call_id"] = short(changed["tool_call_id"])
    return changed


def _compact(schema: Mapping[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": {"whitespace_flexible": False}})


def _quoted(text: str) -> str:
    return json.dumps(text)
