"""Direct preference optimisation (Rafailov et al. 2023): raise a chosen answer over a rejected one, held to the base.

The loss of a pair is -log sigmoid(beta ((log p(chosen) - log p(rejected)) - the same under the base)), each log p a sum
over an answer's tokens. The base's part does not change, so it is computed once, before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from empu.model.transformer import Transformer
from empu.tune.batches import Batch, Example
from empu.tune.cross_entropy import cross_entropy
from empu.tune.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Pair(Example):
    """Two answers to one prompt; ``answer`` is the chosen one."""

    rejected: tuple[int, ...] = ()
    reference: float = 0.0
    """log p(chosen) - log p(rejected) under the base."""

    def __len__(self) -> int:
        return 2 * len(self.prompt) + len(self.answer) + len(self.rejected)

    def sides(self) -> tuple[Example, Example]:
        """The two answers as examples, chosen first."""
        return Example(self.prompt, self.answer), Example(self.prompt, self.rejected)


def margins(model: Transformer, pairs: Sequence[Pair], prefix: Sequence[int] = ()) -> tuple[Tensor, int]:
    """(N,) log p(chosen) - log p(rejected) of each pair, and the tokens computed."""
    sides = [side for pair in pairs for side in pair.sides()]
    batch = Batch.of(sides, prefix)
    hidden = model.hidden(batch.tokens, batch.attend.positions(), batch.attend)
    losses = cross_entropy(hidden[batch.read], model.output_weight, batch.targets)
    answers = torch.split(losses, [len(side.answer) for side in sides])
    sums = torch.stack([-answer.sum() for answer in answers])
    return sums[0::2] - sums[1::2], len(batch.tokens)


def with_references(model: Transformer, pairs: Sequence[Pair]) -> Iterator[Pair]:
    """The pairs with what ``model``, which must still be the base, says of them; each alone, so that it does not matter
    which others there are.
    """
    with torch.no_grad():
        for pair in pairs:
            yield replace(pair, reference=float(margins(model, [pair])[0]))


class PreferenceTrainer(Trainer):
    """The loop with the loss of pairs; all its rows are :class:`Pair`."""

    def weight(self, rows: Sequence[Example]) -> int:
        """Pairs."""
        return len(rows)

    def sum_of_losses(self, rows: Sequence[Example], *, training: bool = False) -> tuple[Tensor, int]:
        """The sum of the pairs' losses, and the tokens computed."""
        pairs = [row for row in rows if isinstance(row, Pair)]
        found, tokens = margins(self.model, pairs, self.prefix)
        reference = torch.tensor([pair.reference for pair in pairs])
        return -F.logsigmoid(self.recipe.preference_beta * (found - reference)).sum(), tokens
