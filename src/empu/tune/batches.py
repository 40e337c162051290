"""Batches: examples end to end behind their common prefix, and the order of examples in an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from empu.model.packed_documents import PackedDocuments
from empu.text.common_prefix import common_prefix
from empu.tune.examples import Example, TrainingExample


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples end to end behind their common prefix.

    T: tokens; N: completion tokens to predict; P: prompt tokens to predict, behind the common prefix. The hidden state
    at a position predicts the target of the same index.
    """

    tokens: Tensor  # (T,) int64
    documents: PackedDocuments
    completion_positions: Tensor  # (N,) int64
    completion_targets: Tensor  # (N,) int64
    prompt_positions: Tensor  # (P,) int64
    prompt_targets: Tensor  # (P,) int64

    @classmethod
    def of(cls, examples: Sequence[Example], prefix: Sequence[int] = ()) -> Batch:
        """Lay out ``examples``. ``prefix`` must begin every prompt and is stored once.

        The last token of an example is a target only, so it is left out of ``tokens``.
        """
        cut = len(prefix)
        tokens = list(prefix)
        lengths: list[int] = []
        completion_positions: list[int] = []
        completion_targets: list[int] = []
        prompt_positions: list[int] = []
        prompt_targets: list[int] = []
        for example in examples:
            inputs = [*example.prompt[cut:], *example.completion[:-1]]
            first = len(tokens) + len(example.prompt) - cut - 1
            prompt_positions += range(len(tokens), first)
            prompt_targets += example.prompt[cut + 1 :]
            completion_positions += range(first, first + len(example.completion))
            completion_targets += example.completion
            tokens += inputs
            lengths.append(len(inputs))
        return cls(
            _int64(tokens),
            PackedDocuments(lengths, prefix=cut),
            _int64(completion_positions),
            _int64(completion_targets),
            _int64(prompt_positions),
            _int64(prompt_targets),
        )


def _int64(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def common_prompt_prefix(examples: Iterable[TrainingExample]) -> tuple[int, ...]:
    """Return the longest prefix that all prompts share, without the last token of any prompt."""
    return common_prefix(example.prompt[:-1] for example in examples)


def epoch_batches(examples: Sequence[TrainingExample], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the indices of the examples of each batch of an epoch: a fixed shuffle with similar lengths together.

    Examples are shuffled, cut into chunks of 16 batches and sorted by length inside each chunk; then the batches of the
    epoch are shuffled again. This needs little padding in attention, and the order is still random.
    """
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = random.permutation(len(examples))
    batches: list[list[int]] = []
    for start in range(0, len(order), 16 * batch_size):
        chunk = sorted(order[start : start + 16 * batch_size].tolist(), key=lambda i: (len(examples[i]), i))
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]
