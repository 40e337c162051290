"""The syntax in which a model writes tool calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from empu.engine.stop_strings import StopBoundary


@dataclass(frozen=True, slots=True)
class ToolDialect:
    """Strings around and between the calls of an answer. Each call is a JSON object with name and arguments."""

    is_native: bool
    """Whether the chat template itself writes tools, calls and results."""
    opening: str = ""
    """Before the first call."""
    separator: str = ""
    """Between two calls; empty if an answer has one call at most."""
    closing: str = ""
    """After the last call."""
    marker: str = ""
    """Beginning of ``opening`` that marks a call anywhere in an answer, so that text may precede it.

    Without a marker an answer is either text or calls, and its first characters decide which.
    """
    arguments_key: str = "arguments"
    convert_call_id: Callable[[str], str] = str
    """Converts the id of a call to the form that the chat template accepts."""

    @property
    def head(self) -> str:
        """The beginning of each call, up to the tool's name."""
        return '{"name": "'

    @property
    def middle(self) -> str:
        """The text between a tool's name and its arguments."""
        return f'", "{self.arguments_key}": '

    @property
    def trigger(self) -> str:
        """The string that starts the calls. Plain text may not contain it; without a marker, may not begin with it."""
        return self.marker or self.opening + self.head

    @property
    def stop_boundary(self) -> StopBoundary:
        """Where the calls start; stop strings do not apply after it."""
        return StopBoundary(self.trigger, at_start=not self.marker)

    def format_call(self, name: str, arguments: Any) -> str:
        """Return one call, without the strings around it."""
        return f"{self.head}{name}{self.middle}{json.dumps(arguments, ensure_ascii=False)}}}"

    def format_calls(self, calls: list[tuple[str, Any]]) -> str:
        """Return all calls of an answer, given as (name, arguments)."""
        return self.opening + self.separator.join(self.format_call(*call) for call in calls) + self.closing
