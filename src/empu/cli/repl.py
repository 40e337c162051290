"""The chat session of ``empu chat``: turns, slash commands, and errors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from empu.cli import output
from empu.cli.generate import PromptInput, generate, result_document, warn_if_truncated
from empu.cli.loading import ResolvedModel
from empu.errors import EmpuError, UsageError
from empu.system.paths import user_path

if TYPE_CHECKING:
    from empu.engine.language_model import LanguageModel
    from empu.engine.sampling import SamplingParams

HELP = """\
/help                 show this list
/reset                clear the conversation; the system message stays
/system [TEXT]        set the system message and clear the conversation; without TEXT: no system message
/regenerate           generate the last answer again
/save FILE            save the conversation as JSON
/set NAME VALUE       set temperature, top_p, top_k, min_p, max_tokens, seed, …; `none` unsets
/quit                 quit (or Ctrl-D)
\"\"\" starts and ends a block of lines; a backslash at the end of a line continues it; Ctrl-C stops an answer."""


class TurnSource(Protocol):
    """Source of user turns, such as a terminal."""

    def read_turn(self) -> str | None: ...


class ChatSession:
    """A conversation with one model. A turn that fails is removed, so the history stays consistent."""

    def __init__(
        self,
        resolved: ResolvedModel,
        model: LanguageModel,
        params: SamplingParams,
        system: str | None,
        *,
        truncate: bool = False,
        as_json: bool = False,
    ) -> None:
        self.resolved = resolved
        self.model = model
        self.params = params
        self.truncate = truncate
        self.as_json = as_json
        self.messages: list[dict[str, str]] = []
        self.commands: dict[str, Callable[[str], None]] = {
            "help": self._help,
            "reset": self._reset,
            "system": self._system,
            "regenerate": self._regenerate,
            "save": self._save,
            "set": self._set,
        }
        if model.task is not None and model.task.kind == "label":
            name = resolved.identity()["name"] or resolved.path
            raise UsageError(f"{name} predicts labels and cannot chat; use: empu run {name} TEXT")
        if model.text.template is None:
            raise UsageError("This model has no chat template, so it cannot chat; use `empu run` to continue a text.")
        if system is None and model.task is not None:
            system = model.task.instruction
        if system is not None:
            self.messages = [{"role": "system", "content": system}]

    def run(self, turns: TurnSource) -> bool:
        """Answer turns until the source ends. Return whether a turn failed."""
        failed = False
        while (turn := turns.read_turn()) is not None:
            if turn.strip() in ("/quit", "/exit", "/bye"):
                break
            try:
                self.handle_turn(turn)
            except EmpuError as error:
                failed = True
                output.message(output.escape_controls(str(error)))
                if self.as_json:
                    output.print_json({"error": {"kind": type(error).__name__, "message": str(error)}}, one_line=True)
        return failed

    def handle_turn(self, turn: str) -> None:
        """Run a slash command, or answer the turn."""
        if not turn.strip():
            return
        if turn.startswith("/"):
            name, _, rest = turn[1:].partition(" ")
            if name not in self.commands:
                raise UsageError(
                    f"Unknown command /{name}; /help lists the commands. A space before the / sends the line as text."
                )
            self.commands[name](rest.strip())
            return
        self._answer({"role": "user", "content": turn})

    def _answer(self, turn: dict[str, str]) -> None:
        prompt: PromptInput = [*self.messages, turn]
        answer = generate(self.model, prompt, self.params, truncate=self.truncate, show=not self.as_json)
        self.messages = [*self.messages, turn, {"role": "assistant", "content": answer.completion.text}]
        warn_if_truncated(answer.completion)
        if answer.interrupted:
            output.message("(stopped)")
        if self.as_json:
            output.print_json(result_document(self.resolved, self.model, self.params, answer.completion), one_line=True)

    def _help(self, rest: str) -> None:
        output.message(HELP)

    def _reset(self, rest: str) -> None:
        self.messages = [message for message in self.messages if message["role"] == "system"]
        output.message("The conversation was cleared.")

    def _system(self, rest: str) -> None:
        self.messages = [{"role": "system", "content": rest}] if rest else []
        output.message(f"The conversation was cleared; it has {'this' if rest else 'no'} system message now.")

    def _regenerate(self, rest: str) -> None:
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise UsageError("There is no answer to regenerate yet.")
        history = self.messages
        turn = history[-2]
        self.messages = history[:-2]
        try:
            self._answer(turn)
        except EmpuError:
            self.messages = history
            raise

    def _save(self, rest: str) -> None:
        if not rest:
            raise UsageError("Give a file: /save FILE.")
        path = user_path(rest)
        saved = {"model": self.resolved.identity(), "messages": self.messages}
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(saved, file, ensure_ascii=False, indent=2)
        except FileExistsError:
            raise UsageError(f"{path} exists already; choose another name.") from None
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}); choose another path.") from error
        output.message(f"Saved {len(self.messages)} messages to {path}.")

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        numbers = {f.name: getattr(self.params, f.name) for f in dataclasses.fields(self.params)}
        for other in ("stop", "logprobs", "logit_bias"):
            numbers.pop(other, None)
        if name not in numbers or not value:
            current = ", ".join(f"{key} {shown if shown is not None else 'none'}" for key, shown in numbers.items())
            raise UsageError(f"Use /set NAME VALUE. Current values: {current}.")
        try:
            number = None if value == "none" else json.loads(value)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                raise ValueError("not a number")
            changes: dict[str, Any] = {name: number}
            changed = dataclasses.replace(self.params, **changes)
        except (ValueError, TypeError):
            raise UsageError(f"{name} needs a number (or none), not {value!r}.") from None
        self.params = changed
        output.message(f"{name} is now {value}.")
