"""Rows as token ids, ready to train on."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, overload


class TrainingExample(Protocol):
    """What the trainer knows of an example. The objective knows the rest."""

    @property
    def prompt(self) -> tuple[int, ...]: ...

    def __len__(self) -> int:
        """Number of tokens, prompt included."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the completion to learn."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """Two completions of one prompt, of which one was preferred."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    reference_margin: float = 0.0
    """log p(chosen) - log p(rejected) under the base model, in nats."""

    def __len__(self) -> int:
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    def completions(self) -> tuple[Example, Example]:
        """Return the two completions as examples, the chosen one first."""
        return Example(self.prompt, self.chosen), Example(self.prompt, self.rejected)


class PackedExamples(Sequence[Example]):
    """Many examples at 4 bytes a token. Each :class:`Example` is built when it is accessed."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._ids = array("i")
        self._ends = array("q", [0])  # of each example's prompt, then of its completion
        for example in examples:
            for ids in (example.prompt, example.completion):
                self._ids.extend(ids)
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
        i = range(len(self))[index]
        start, middle, end = self._ends[2 * i : 2 * i + 3]
        return Example(tuple(self._ids[start:middle]), tuple(self._ids[middle:end]))
