"""The recipe of a training run: every hyperparameter that affects the weights, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from empu.errors import UsageError
from empu.tune.lora import TARGET_MODULES, LoraConfig

Method = Literal["lora", "full"]
Precision = Literal["float32", "bfloat16", "int8"]

FORMER_KEYS = {
    "warmup": "warmup_ratio",
    "clip": "max_grad_norm",
    "noise": "neftune_alpha",
    "smoothing": "label_smoothing",
    "reading": "prompt_loss_weight",
    "batch_rows": "batch_size",
    "micro_tokens": "micro_batch_tokens",
    "preference_beta": "dpo_beta",
}
"""Key in recipes that earlier versions recorded -> key now."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of a training run.

    The same recipe on the same rows, base model, machine and number of threads gives the same weights, byte for byte.
    """

    method: Method = "lora"
    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = TARGET_MODULES
    precision: Precision = "bfloat16"
    """Type of matrix products. ``int8``: products with frozen weights in 8 bits in the compiled engine, the rest in
    float32."""
    learning_rate: float = 1e-3
    """Peak learning rate, reached after the warm-up; it then falls linearly to zero."""
    warmup_ratio: float = 0.05
    """Fraction of the steps."""
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    max_grad_norm: float = 1.0
    neftune_alpha: float = 0.0
    """Scale of the uniform noise on embedded tokens while training (NEFTune, Jain et al. 2023); 0: none."""
    label_smoothing: float = 0.0
    """Fraction of the target probability that is spread over all tokens (Szegedy et al. 2016)."""
    prompt_loss_weight: float = 0.0
    """Weight in the loss of a prompt's token; a completion's token has weight 1. This is the auxiliary objective of
    Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training"."""
    batch_size: int = 32
    """Rows of one optimiser step."""
    micro_batch_tokens: int = 1024
    """Largest number of tokens computed at once. A batch is split at this number to bound memory."""
    epochs: int = 2
    max_steps: int | None = None
    patience: int = 2
    """Epochs without a lower validation loss before training stops early."""
    dpo_beta: float = 0.1
    """For preference rows: how strongly the model is kept close to its base."""
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "learning_rate",
            "max_grad_norm",
            "batch_size",
            "micro_batch_tokens",
            "epochs",
            "patience",
            "dpo_beta",
        ):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)!r}; give a number above 0.")
        if self.max_steps is not None and self.max_steps < 1:
            raise UsageError(f"max_steps is {self.max_steps}; give at least 1.")
        for name in ("neftune_alpha", "label_smoothing", "prompt_loss_weight", "weight_decay"):
            value, limit = getattr(self, name), 1 if name == "label_smoothing" else math.inf
            if not 0 <= value < limit:
                expected = "from 0 to below 1" if limit == 1 else "of at least 0"
                raise UsageError(f"{name} is {value!r}; give a number {expected}.")
        if not 0 <= self.warmup_ratio < 1:
            raise UsageError(f"warmup_ratio is {self.warmup_ratio!r}; give a fraction of the steps, from 0 to below 1.")
        self.lora.check()

    @property
    def lora(self) -> LoraConfig:
        """Shape and initialisation of the adapters; without effect where ``method`` is "full"."""
        return LoraConfig(self.rank, self.alpha, self.targets, self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain values, for the ledger."""
        return {**dataclasses.asdict(self), "targets": list(self.targets)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """Return the recipe that :meth:`to_json` wrote, in this version or an earlier one.

        Raises ``KeyError`` or ``TypeError`` for keys that this version does not know.
        """
        renamed = {FORMER_KEYS.get(key, key): item for key, item in value.items()}
        return cls(**{**renamed, "targets": tuple(renamed["targets"])})

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """Return the learning rate of ``step`` (from 0): linear warm-up, then linear decay to zero."""
        warmup_steps = max(1, round(self.warmup_ratio * total_steps))
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / warmup_steps
        return self.learning_rate * (total_steps - step) / max(1, total_steps - warmup_steps)
