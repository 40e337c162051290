"""The task of a specialist: its kind, labels, instruction and answer schema. Shared by tuning, evaluation and serving.

A task is stored beside the specialist's weights (``task.json``), so that it is prompted in the way it was tuned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from empu.errors import ConfigError
from empu.system.files import read_json_object
from empu.text.base import Message

NO_LABEL = "none of these"
"""The answer of a label specialist for a text below its confidence threshold."""
_MAX_LOG_ODDS = 700.0
"""Beyond this a probability is 0 or 1 in 64 bits anyway, and the exponential would overflow."""

TASK_FILE = "task.json"
TaskKind = Literal["label", "completion", "messages"]
KINDS: tuple[TaskKind, ...] = ("label", "completion", "messages")


@dataclass(frozen=True, slots=True)
class Task:
    """``label``: choose one of ``labels``; ``completion``: answer freely; ``messages``: continue a dialogue."""

    kind: TaskKind
    instruction: str | None = None
    """System message of each prompt; ``None``: the chat template's own, if it has one."""
    labels: tuple[str, ...] = ()
    shots: tuple[tuple[str, str], ...] = ()
    """Few-shot examples before the question: (prompt, answer) pairs."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema that constrains every answer."""
    calibration: tuple[float, float] | None = None
    """(slope, intercept) that map the log-odds of a label's probability to those of the label being correct."""
    threshold: float | None = None
    """Confidence below which no label is returned; ``None``: a label is always returned."""

    def messages(self, prompt: str) -> list[Message]:
        """Return the dialogue that asks for the answer to ``prompt``."""
        messages: list[Message] = [{"role": "system", "content": self.instruction}] if self.instruction else []
        for question, answer in self.shots:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*messages, {"role": "user", "content": prompt}]

    def confidence(self, probability: float) -> float:
        """Return the calibrated probability that a label is correct, from its probability under the model."""
        if self.calibration is None:
            return probability
        slope, intercept = self.calibration
        calibrated = slope * log_odds(probability) + intercept
        return 1 / (1 + math.exp(-min(max(calibrated, -_MAX_LOG_ODDS), _MAX_LOG_ODDS)))

    def is_below_threshold(self, confidence: float) -> bool:
        """Return whether ``confidence`` is below the threshold."""
        return self.threshold is not None and confidence < self.threshold

    def to_json(self) -> dict[str, Any]:
        """Return the task as plain JSON values."""
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
        """Return the task that :meth:`to_json` wrote. Raises :class:`~empu.errors.ConfigError` for other values."""
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
    """Return ln(p / (1 - p)), with p clipped to a millionth away from 0 and 1."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def read_task(folder: Path) -> Task | None:
    """Read the task beside a specialist's weights; ``None`` if there is none (an adapter of another program)."""
    path = folder / TASK_FILE
    if not path.is_file():
        return None
    remedy = "tune the specialist again, or put the file back"
    content = read_json_object(path, ConfigError, remedy=remedy)
    try:
        return Task.from_json(content)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}); {remedy}.") from None
