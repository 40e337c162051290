"""What a specialist was made for, and how a row of it reads as a dialogue. Tuning, scoring and serving share this page.

A task is written beside the specialist's weights (``task.json``), so that it is asked in the way it was tuned.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from empu.errors import ConfigError
from empu.text.base import Message, Text
from empu.text.chat import encode_chat

TaskKind = Literal["label", "completion", "messages"]
KINDS: tuple[TaskKind, ...] = ("label", "completion", "messages")


@dataclass(frozen=True, slots=True)
class Task:
    """``label``: choose one of ``labels``; ``completion``: answer freely; ``messages``: go on with a dialogue."""

    kind: TaskKind
    instruction: str | None = None
    """System message that stands before each row; ``None``: the template's own, if it has one."""
    labels: tuple[str, ...] = ()

    def messages(self, prompt: str) -> list[Message]:
        """The dialogue that asks for one row's answer."""
        before: list[Message] = [{"role": "system", "content": self.instruction}] if self.instruction else []
        return [*before, {"role": "user", "content": prompt}]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """The inverse of :meth:`to_json`; raises :class:`~empu.errors.ConfigError` for anything else."""
        try:
            kind, instruction, labels = value["kind"], value["instruction"], value["labels"]
        except (KeyError, TypeError):
            raise ConfigError("The task of the specialist lacks its kind, instruction or labels.") from None
        if kind not in KINDS or not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ConfigError(f"The task of the specialist is of the unknown kind {kind!r}.")
        return cls(kind, instruction, tuple(labels))


TASK_FILE = "task.json"


def read_task(folder: Path) -> Task | None:
    """The task beside a specialist's weights; ``None`` where there is none (an adapter made by another program)."""
    path = folder / TASK_FILE
    if not path.is_file():
        return None
    try:
        return Task.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); tune the specialist again, or put the file back."
        ) from None


def spoken(labels: Sequence[str]) -> list[str]:
    """How labels read in an answer: ``card_arrival`` becomes ``card arrival``, which a language model knows better.
    Labels that would then read the same stay as they are.
    """
    words = [" ".join(label.replace("_", " ").replace("-", " ").split()) or label for label in labels]
    return words if len(set(words)) == len(words) else list(labels)


def encode_question(text: Text, messages: list[Message]) -> list[int]:
    """Ids of a dialogue up to where the answer begins. A model without a chat template gets its texts, then a line
    break and an arrow.
    """
    if text.template is not None:
        return encode_chat(text, messages)
    joined = "\n".join(str(message["content"]) for message in messages)
    return text.tokenizer.encode(f"{joined}\n=>", add_bos=text.add_bos)


def encode_answer(text: Text, answer: str) -> list[int]:
    """Ids of an answer with the token that ends a turn."""
    lead = "" if text.template is not None else " "
    return [*text.tokenizer.encode(lead + answer), end_of_turn(text)]


def end_of_turn(text: Text) -> int:
    """The token with which this model ends its answers. Raises :class:`~empu.errors.ConfigError` if it has none."""
    specials = text.tokenizer.special_tokens
    for name in ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>", "<|end_of_text|>", "<|endoftext|>"):
        if specials.get(name) in text.tokenizer.eos_ids:
            return specials[name]
    if text.tokenizer.eos_ids:
        return min(text.tokenizer.eos_ids)
    raise ConfigError("The model has no token that ends an answer, so it cannot be tuned to give one.")
