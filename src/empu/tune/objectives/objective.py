"""The interface between the trainer and a loss. The trainer knows nothing else of an objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from empu.model.transformer import Transformer
from empu.tune.examples import TrainingExample

E = TypeVar("E", bound=TrainingExample)


class Objective(Protocol[E]):
    """A loss over training examples."""

    def prepare(self, model: Transformer, examples: Sequence[E]) -> Sequence[E]:
        """Return the examples with what the untrained ``model`` computes of them. Called before the first step."""

    def normaliser(self, examples: Sequence[E]) -> int:
        """Return what the summed loss of ``examples`` is divided by, such as the number of completion tokens."""

    def summed_loss(
        self, model: Transformer, examples: Sequence[E], prefix: Sequence[int], noise: torch.Generator | None
    ) -> tuple[Tensor, int]:
        """Return the loss summed over ``examples``, and the number of tokens computed.

        ``prefix`` begins every prompt, so it is computed once. ``noise`` is the generator for regularisation while
        training, and ``None`` in validation, which uses no regularisation.
        """
