"""The dialogue of ``empu chat``: turns, the commands that begin with a slash, and what happens when one fails."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from empu.cli import output
from empu.cli.generate import Question, ask, document, warn_of_cut
from empu.cli.loading import Located
from empu.errors import EmpuError, UsageError
from empu.system.paths import user_path

if TYPE_CHECKING:
    from empu.engine.language_model import LanguageModel
    from empu.engine.sampling import SamplingParams

HELP = """\
/help                 this list
/reset                forget the dialogue; the system instruction stays
/system [TEXT]        set the system instruction and begin anew; without TEXT: none
/regenerate           answer the last turn again
/save FILE            write the dialogue as JSON
/set NAME VALUE       change temperature, top_p, top_k, min_p, max_tokens, seed, …; `none` unsets
/quit                 leave (or Ctrl-D)
\"\"\" begins and ends a block of lines; a backslash at the end of a line continues it; Ctrl-C stops an answer."""


class TurnSource(Protocol):
    """Where turns come from."""

    def read_turn(self) -> str | None: ...


class Conversation:
    """A dialogue with one model. A turn that fails is taken back, so that the next one starts from a whole dialogue."""

    def __init__(
        self,
        located: Located,
        model: LanguageModel,
        params: SamplingParams,
        system: str | None,
        *,
        truncate: bool = False,
        as_json: bool = False,
    ) -> None:
        self.located = located
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
            name = located.identity()["name"] or located.path
            raise UsageError(f"{name} names labels and holds no dialogue; ask it with: empu run {name} TEXT")
        if model.text.template is None:
            raise UsageError(
                "This model has no chat template: it continues text and knows no turns; use `empu run` with it."
            )
        if system is not None:
            self.messages = [{"role": "system", "content": system}]

    def hold(self, turns: TurnSource) -> bool:
        """Answer turns until they end. Returns whether one failed."""
        failed = False
        while (turn := turns.read_turn()) is not None:
            if turn.strip() in ("/quit", "/exit", "/bye"):
                break
            try:
                self.take(turn)
            except EmpuError as error:
                failed = True
                output.say(output.harmless(str(error)))
                if self.as_json:
                    output.answer({"error": {"kind": type(error).__name__, "message": str(error)}}, one_line=True)
        return failed

    def take(self, turn: str) -> None:
        """One line of the user: a command, or something to answer."""
        if not turn.strip():
            return
        if turn.startswith("/"):
            name, _, rest = turn[1:].partition(" ")
            if name not in self.commands:
                raise UsageError(
                    f"There is no command /{name}; /help lists them, and a space before the / makes it text."
                )
            self.commands[name](rest.strip())
            return
        self._answer({"role": "user", "content": turn})

    def _answer(self, turn: dict[str, str]) -> None:
        question: Question = [*self.messages, turn]
        answer = ask(self.model, question, self.params, truncate=self.truncate, show=not self.as_json)
        self.messages = [*self.messages, turn, {"role": "assistant", "content": answer.completion.text}]
        warn_of_cut(answer.completion)
        if answer.interrupted:
            output.say("(stopped)")
        if self.as_json:
            output.answer(document(self.located, self.model, self.params, answer.completion), one_line=True)

    def _help(self, rest: str) -> None:
        output.say(HELP)

    def _reset(self, rest: str) -> None:
        self.messages = [message for message in self.messages if message["role"] == "system"]
        output.say("The dialogue begins anew.")

    def _system(self, rest: str) -> None:
        self.messages = [{"role": "system", "content": rest}] if rest else []
        output.say("The dialogue begins anew" + (" with that instruction." if rest else " without an instruction."))

    def _regenerate(self, rest: str) -> None:
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise UsageError("There is no answer yet to give again.")
        before = self.messages
        turn = before[-2]
        self.messages = before[:-2]
        try:
            self._answer(turn)
        except EmpuError:
            self.messages = before
            raise

    def _save(self, rest: str) -> None:
        if not rest:
            raise UsageError("Say where: /save FILE.")
        path = user_path(rest)
        saved = {"model": self.located.identity(), "messages": self.messages}
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(saved, file, ensure_ascii=False, indent=2)
        except FileExistsError:
            raise UsageError(f"{path} exists already; choose another name.") from None
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}); choose another place.") from error
        output.say(f"Saved {len(self.messages)} messages to {path}.")

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        numbers = {f.name: getattr(self.params, f.name) for f in dataclasses.fields(self.params)}
        for other in ("stop", "logprobs"):
            numbers.pop(other, None)
        if name not in numbers or not value:
            now = ", ".join(f"{key} {shown if shown is not None else 'none'}" for key, shown in numbers.items())
            raise UsageError(f"Say /set NAME VALUE; now: {now}.")
        try:
            number = None if value == "none" else json.loads(value)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                raise ValueError("not a number")
            changes: dict[str, Any] = {name: number}
            changed = dataclasses.replace(self.params, **changes)
        except (ValueError, TypeError):
            raise UsageError(f"{name} needs a number (or none), not {value!r}.") from None
        self.params = changed
        output.say(f"{name} is {value} now.")
