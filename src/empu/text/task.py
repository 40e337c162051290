"""What a specialist was made for, and how a row of it reads as a dialogue. Tuning, scoring and serving share this page.

A task is written beside the specialist's weights (``task.json``), so that it is asked in the way it was tuned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from empu.errors import ConfigError
from empu.text.base import Message, Text
from empu.text.templates.chat_encoding import encode_chat

NONE_OF_THESE = "none of these"
"""What a specialist for labels says of a text that it refuses."""
FARTHEST = 700.0
"""Log-odds beyond which a probability is 0 or 1 in 64 bits anyway, and an exponential would overflow."""

TaskKind = Literal["label", "completion", "messages"]
KINDS: tuple[TaskKind, ...] = ("label", "completion", "messages")


@dataclass(frozen=True, slots=True)
class Task:
    """``label``: choose one of ``labels``; ``completion``: answer freely; ``messages``: go on with a dialogue."""

    kind: TaskKind
    instruction: str | None = None
    """System message that stands before each row; ``None``: the template's own, if it has one."""
    labels: tuple[str, ...] = ()
    shots: tuple[tuple[str, str], ...] = ()
    """(prompt, answer) pairs that stand before the question as examples."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema that every answer keeps to."""
    calibration: tuple[float, float] | None = None
    """(slope, intercept) that turn the log-odds of a label's probability into those of its being right."""

    threshold: float | None = None
    """Confidence below which none of the labels is given; ``None``: always one."""

    def messages(self, prompt: str) -> list[Message]:
        """The dialogue that asks for one row's answer."""
        before: list[Message] = [{"role": "system", "content": self.instruction}] if self.instruction else []
        for question, answer in self.shots:
            before += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*before, {"role": "user", "content": prompt}]

    def confidence(self, probability: float) -> float:
        """The calibrated probability that a label with this probability under the model is right."""
        if self.calibration is None:
            return probability
        slope, intercept = self.calibration
        odds = slope * log_odds(probability) + intercept
        return 1 / (1 + math.exp(-min(max(odds, -FARTHEST), FARTHEST)))

    def refuses(self, confidence: float) -> bool:
        """Whether an answer this sure is too unsure to be given."""
        return self.threshold is not None and confidence < self.threshold

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "kind": self.kind,
            "instruction": self.instruction,
            "labels": list(self.labels),
            "shots": [list(shot) for shot in self.shots],
            "schema": dict(self.schema) if self.schema else None,
            "calibration": list(self.calibration) if self.calibration else None,
            "threshold": self.threshold,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """The inverse of :meth:`to_json`; raises :class:`~empu.errors.ConfigError` for anything else."""
        try:
            kind, instruction, labels = value["kind"], value["instruction"], value["labels"]
        except (KeyError, TypeError):
            raise ConfigError("The task of the specialist lacks its kind, instruction or labels.") from None
        if kind not in KINDS or not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ConfigError(f"The task of the specialist is of the unknown kind {kind!r}.")
        shots = tuple((str(question), str(answer)) for question, answer in value.get("shots", ()))
        threshold = value.get("threshold")
        if threshold is not None and not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
            raise ConfigError(f"The threshold of the specialist is {threshold!r}; it should be from 0 to 1, or null.")
        calibration = _calibration(value.get("calibration"))
        return cls(kind, instruction, tuple(labels), shots, value.get("schema"), calibration, threshold)


def _calibration(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = [float(x) for x in value if isinstance(x, int | float)] if isinstance(value, list) else []
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"The calibration of the specialist is {value!r}; it should be two finite numbers, or null.")
    return numbers[0], numbers[1]


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), with p kept a millionth away from 0 and 1."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


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
    return text.tokenizer.encode(plain_question(messages), add_bos=text.add_bos)


def plain_question(messages: Sequence[Message]) -> str:
    """A dialogue for a model without a chat template."""
    return "\n".join(str(message["content"]) for message in messages) + "\n=>"


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
