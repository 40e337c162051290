"""How a run is tuned: every number that decides its result, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from empu.errors import UsageError
from empu.tune.lora import TARGETS

Method = Literal["lora", "full"]
Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The same recipe on the same rows, base, machine and threads gives the same weights, byte for byte."""

    method: Method = "lora"
    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = TARGETS
    precision: Precision = "bfloat16"
    """Of products; int8: those of the frozen weights in 8 bits, compiled, and the adapters in float32."""
    learning_rate: float = 1e-3
    """The highest; reached after the warm-up, then falling linearly to zero."""
    warmup: float = 0.05
    """Share of the steps."""
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    """Largest norm of the gradient."""
    noise: float = 0.0
    """Uniform noise on embedded tokens while tuning, as in "NEFTune" (Jain et al. 2023), its alpha; 0: none."""
    smoothing: float = 0.0
    """Share of the target that is spread over all tokens ("label smoothing", Szegedy et al. 2016)."""
    reading: float = 0.0
    """Weight of a prompt's own token in the loss, where an answer's token has 1 (the auxiliary objective of Radford et
    al. 2018, "Improving Language Understanding by Generative Pre-Training")."""
    batch_rows: int = 32
    """Rows of one optimiser step."""
    micro_tokens: int = 1024
    """A step's rows are computed in parts of at most this many tokens, which bounds memory."""
    epochs: int = 2
    max_steps: int | None = None
    patience: int = 2
    """Epochs without a better loss on the development rows before tuning ends."""
    preference_beta: float = 0.1
    """For rows (chosen, rejected): how firmly the model is held to its base."""
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        positive = (
            "rank",
            "alpha",
            "learning_rate",
            "clip",
            "batch_rows",
            "micro_tokens",
            "epochs",
            "patience",
            "preference_beta",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)!r}; give a number above 0.")
        if self.max_steps is not None and self.max_steps < 1:
            raise UsageError(f"max_steps is {self.max_steps}; give at least 1.")
        for name in ("noise", "smoothing", "reading", "weight_decay"):
            if not 0 <= getattr(self, name) < (1 if name == "smoothing" else math.inf):
                raise UsageError(f"{name} is {getattr(self, name)!r}; give a number of at least 0.")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"warmup is {self.warmup!r}; give a share of the steps, from 0 to below 1.")

    def to_json(self) -> dict[str, Any]:
        """As plain values, for the ledger."""
        return {**dataclasses.asdict(self), "targets": list(self.targets)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """The inverse of :meth:`to_json`."""
        return cls(**{**value, "targets": tuple(value["targets"])})

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of ``step`` (from 0) out of ``steps``."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * (steps - step) / max(1, steps - warm)
