"""Rows as the model sees them: a prompt and an answer of token ids, and batches of them laid end to end."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from empu.model.attention import Packed


@dataclass(frozen=True, slots=True)
class Example:
    """One row. Loss is on the answer's tokens alone."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class Examples(Sequence[Example]):
    """Many rows in 4 bytes a token; each :class:`Example` is made when it is asked for."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._ids = array("i")
        self._ends = array("q", [0])  # of each row's prompt, then of its answer
        for example in examples:
            for part in (example.prompt, example.answer):
                self._ids.extend(part)
                self._ends.append(len(self._ids))

    def __len__(self) -> int:
        return len(self._ends) // 2

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        begin, middle, end = self._ends[2 * row : 2 * row + 3]
        return Example(tuple(self._ids[begin:middle]), tuple(self._ids[middle:end]))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows end to end behind their common prefix. ``read`` are the places whose next token is an answer's token."""

    tokens: Tensor  # (T,) int64
    attend: Packed
    read: Tensor  # (N,) int64
    targets: Tensor  # (N,) int64
    rows: int
    prompt_read: Tensor  # (P,) int64: places whose next token is a prompt's, behind the common prefix
    prompt_targets: Tensor  # (P,) int64

    @classmethod
    def of(cls, examples: Sequence[Example], prefix: Sequence[int] = ()) -> Batch:
        """``prefix`` must begin every example's prompt; it is laid down once. A row's last token is not read."""
        cut = len(prefix)
        tokens = list(prefix)
        lengths: list[int] = []
        read: list[int] = []
        targets: list[int] = []
        prompt_read: list[int] = []
        prompt_targets: list[int] = []
        for example in examples:
            row = [*example.prompt[cut:], *example.answer[:-1]]
            first = len(tokens) + len(example.prompt) - cut - 1
            prompt_read += range(len(tokens), first)
            prompt_targets += example.prompt[cut + 1 :]
            read += range(first, first + len(example.answer))
            targets += example.answer
            tokens += row
            lengths.append(len(row))
        attend = Packed(lengths, prefix=cut)
        return cls(
            _ids(tokens), attend, _ids(read), _ids(targets), len(examples), _ids(prompt_read), _ids(prompt_targets)
        )


def _ids(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def common_prefix(examples: Iterable[Example]) -> tuple[int, ...]:
    """The longest beginning that all prompts share, leaving each at least its last token."""
    shared: tuple[int, ...] | None = None
    for example in examples:
        prompt = example.prompt[:-1]
        shared = prompt if shared is None else shared[: len(prompt)]
        if prompt[: len(shared)] != shared:
            shared = shared[: next(i for i, (a, b) in enumerate(zip(shared, prompt, strict=False)) if a != b)]
    return shared or ()


def epoch_batches(examples: Sequence[Example], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of the rows of each batch: a fixed shuffle of this epoch, rows of like length together.

    Rows are shuffled, cut into stretches of 16 batches, sorted by length inside each, and the batches of the whole
    epoch shuffled again: little padding in attention, and still a random order.
    """
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = random.permutation(len(examples))
    batches: list[list[int]] = []
    for start in range(0, len(order), 16 * size):
        stretch = sorted(order[start : start + 16 * size].tolist(), key=lambda i: (len(examples[i]), i))
        batches += [stretch[i : i + size] for i in range(0, len(stretch), size)]
    return [batches[i] for i in random.permutation(len(batches))]
