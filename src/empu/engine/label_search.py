"""Choosing one of several given answers, exactly: the likeliest label under the model, with its probability.

The answers form a trie of tokens. At each branch the model's distribution is restricted to the tokens that lead to an
answer, so that the probabilities of all answers add up to one. The search goes best-first: the first answer that comes
to the front is the likeliest, and most of the others are never computed. Tokens without an alternative cost nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from empu.engine.backends.protocol import Backend, Chunk, SequenceId, Want
from empu.errors import NoRoomError, PromptTooLongError, UsageError

BATCH = 48
"""Questions that are answered side by side."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer (its index) with its probability among all answers."""

    index: int
    probability: float


class ChoiceTrie:
    """Answers as token ids, each ending in a token that ends the turn, so that none is the beginning of another."""

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        """Raises :class:`UsageError` without answers, or when two read the same or one continues another."""
        if not answers:
            raise UsageError("There is nothing to choose from; give at least one answer.")
        self.answers = [tuple(answer) for answer in answers]
        self.children: dict[tuple[int, ...], list[int]] = {}
        self.leaves: dict[tuple[int, ...], int] = {}
        for index, answer in enumerate(self.answers):
            if answer in self.leaves:
                raise UsageError(f"The answers {self.leaves[answer]} and {index} read the same; make them differ.")
            self.leaves[answer] = index
            for i in range(len(answer)):
                following = self.children.setdefault(answer[:i], [])
                if answer[i] not in following:
                    following.append(answer[i])
        if any(leaf in self.children for leaf in self.leaves) or () in self.leaves:
            raise UsageError("One of the answers is the beginning of another, so that they cannot be told apart.")

    def forced(self, path: tuple[int, ...]) -> tuple[int, ...]:
        """``path`` and the tokens that must follow it, up to the next branch or the end."""
        while len(following := self.children.get(path, [])) == 1:
            path = (*path, following[0])
        return path


@dataclass
class _Question:
    """One question's search."""

    prompt: list[int]
    sequence: SequenceId
    read: tuple[int, ...] | None = None
    """The path whose tokens the cache holds behind the prompt."""
    frontier: list[tuple[float, tuple[int, ...]]] = field(default_factory=lambda: [(0.0, ())])
    found: list[Choice] = field(default_factory=list)


def choose(
    backend: Backend, prompts: Sequence[Sequence[int]], trie: ChoiceTrie, *, count: int = 1
) -> Iterator[list[Choice]]:
    """The ``count`` likeliest answers to each prompt, best first, prompt by prompt in the order given.

    What all prompts begin with is read once. Raises :class:`PromptTooLongError` for a prompt that leaves no room.
    """
    if not prompts:
        return
    longest = max(map(len, trie.answers))
    limit = backend.context - longest
    for prompt in prompts:
        if len(prompt) > limit:
            raise PromptTooLongError(len(prompt), limit, "shorten it")
    shared = _common(prompts)
    root = backend.allocate(max(1, len(shared)))
    try:
        if shared:
            backend.forward([Chunk(root, np.asarray(shared, dtype=np.int32), Want.NONE)])
        done = 0
        while done < len(prompts):
            found = _batch(backend, prompts[done : done + BATCH], trie, count, root, len(shared), longest)
            yield from found
            done += len(found)
    finally:
        backend.release(root)


def _batch(
    backend: Backend,
    prompts: Sequence[Sequence[int]],
    trie: ChoiceTrie,
    count: int,
    root: SequenceId,
    shared: int,
    longest: int,
) -> list[list[Choice]]:
    """The answers to as many of the prompts as there is room for at once, at least one."""
    questions: list[_Question] = []
    try:
        for prompt in prompts:
            try:
                sequence = backend.fork(root, shared, len(prompt) + longest)
            except NoRoomError:
                if not questions:
                    raise
                break
            questions.append(_Question(list(prompt), sequence))
        while any(open_ := [question for question in questions if _advance(question, trie, count)]):
            chunks = [_chunk(backend, question, trie) for question in open_]
            for question, logits in zip(open_, backend.forward(chunks), strict=True):
                _branch(question, logits[-1], trie)
        return [question.found for question in questions]
    finally:
        for question in questions:
            backend.release(question.sequence)


def _advance(question: _Question, trie: ChoiceTrie, count: int) -> bool:
    """Take finished answers from the front; whether the search has to go on."""
    while question.frontier and len(question.found) < count:
        cost, path = question.frontier[0]
        path = trie.forced(path)
        if path not in trie.leaves:
            return True
        heapq.heappop(question.frontier)
        question.found.append(Choice(trie.leaves[path], math.exp(-cost)))
    return False


def _chunk(backend: Backend, question: _Question, trie: ChoiceTrie) -> Chunk:
    """The tokens that the front of the search needs beyond what the cache holds."""
    path = trie.forced(question.frontier[0][1])
    start = len(question.prompt)
    if question.read is None:
        tokens = [*question.prompt[backend.length(question.sequence) :], *path]
    else:
        common = 0
        for a, b in zip(question.read, path, strict=False):
            if a != b:
                break
            common += 1
        common = min(common, len(path) - 1)
        backend.truncate(question.sequence, start + common)
        tokens = list(path[common:])
    question.read = path
    return Chunk(question.sequence, np.asarray(tokens, dtype=np.int32))


def _branch(question: _Question, logits: npt.NDArray[np.float32], trie: ChoiceTrie) -> None:
    cost, path = heapq.heappop(question.frontier)
    path = trie.forced(path)
    following = trie.children[path]
    values = logits[following].astype(np.float64)
    values -= values.max()
    costs = math.log(float(np.exp(values).sum())) - values
    for token, more in zip(following, costs, strict=True):
        heapq.heappush(question.frontier, (cost + float(more), (*path, token)))


def _common(prompts: Sequence[Sequence[int]]) -> list[int]:
    """What all prompts begin with, leaving each at least one token."""
    shortest = min(map(len, prompts)) - 1
    first = prompts[0]
    length = 0
    while length < shortest and all(prompt[length] == first[length] for prompt in prompts):
        length += 1
    return list(first[:length])
