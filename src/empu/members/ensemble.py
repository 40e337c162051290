"""The mixture of a label specialist: its members beside the language model, their weights, and the cascade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from empu.members.member import LANGUAGE_MODEL, Member


@dataclass(frozen=True, slots=True)
class CascadeStage:
    """Members that answer alone where they are sure."""

    weights: Mapping[str, float]
    """Member -> exponent of its probability."""
    threshold: float
    """Confidence from which this stage answers."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A log-linear mixture of classifiers with the same labels."""

    labels: tuple[str, ...]
    members: Mapping[str, Member]
    """Members beside the language model."""
    weights: Mapping[str, float]
    """Member -> exponent of its probability in the whole, the language model included if it is asked."""
    cascade: tuple[CascadeStage, ...] = ()
    """Stages of the fast mode before the whole, the cheapest first."""
    without: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Member -> weights of the others, fitted without it."""
    calibration: tuple[float, float] | None = None
    """Calibration of the language model alone; that of the task is for the whole."""
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of rows and scores behind the weights, for reports."""

    @property
    def asks_language_model(self) -> bool:
        """Whether the language model has a part in the whole."""
        return LANGUAGE_MODEL in self.weights
