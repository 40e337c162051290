"""Label search: the most likely of several given answers under the model, exactly, with its probability.

The answers form a trie of tokens. At each branch the model's distribution is restricted to the tokens that lead to an
answer, so the probabilities of all answers sum to one. The search is best-first: the first answer at the front is the
most likely, and most others are never computed. Tokens without an alternative cost nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from empu.engine.backends.protocol import Backend, Chunk, LogitsNeeded, SequenceId
from empu.engine.prefix_cache import reusable_length
from empu.errors import CacheFullError, PromptTooLongError, UsageError
from empu.text.common_prefix import common_prefix

BATCH_SIZE = 48
"""Prompts that are searched at once."""

RESOLUTION = 0.01
"""Probability below which a distribution does not tell the answers of a branch apart."""

Path = tuple[int, ...]
"""Token ids from the root of the trie."""


@dataclass(frozen=True, slots=True)
class ScoredLabel:
    """The index of an answer, and its probability among all answers."""

    index: int
    probability: float


class LabelTrie:
    """Answers as token ids. Each ends in a token that ends the turn, so that none is a prefix of another."""

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        """Raises :class:`UsageError` without answers, and for answers that are equal or a prefix of another."""
        if not answers:
            raise UsageError("There are no labels to choose from; give at least one.")
        self.answers = [tuple(answer) for answer in answers]
        self.children: dict[Path, list[int]] = {}
        self.leaves: dict[Path, int] = {}
        self.num_answers: dict[Path, int] = {}
        """Path -> number of answers that begin with it."""
        for index, answer in enumerate(self.answers):
            if answer in self.leaves:
                raise UsageError(f"The labels {self.leaves[answer]} and {index} have the same tokens; change one.")
            self.leaves[answer] = index
            for i in range(len(answer)):
                self.num_answers[answer[:i]] = self.num_answers.get(answer[:i], 0) + 1
                next_tokens = self.children.setdefault(answer[:i], [])
                if answer[i] not in next_tokens:
                    next_tokens.append(answer[i])
        if any(leaf in self.children for leaf in self.leaves) or () in self.leaves:
            raise UsageError("One label is the beginning of another, so that they cannot be told apart.")

    def extend_forced(self, path: Path) -> Path:
        """Return ``path`` with the tokens that must follow it, up to the next branch or the end."""
        while len(next_tokens := self.children.get(path, [])) == 1:
            path = (*path, next_tokens[0])
        return path


@dataclass
class _Search:
    """The search for one prompt."""

    prompt: list[int]
    sequence: SequenceId
    computed_path: Path | None = None
    """The path whose tokens the cache holds after the prompt; ``None`` before the prompt is computed."""
    frontier: list[tuple[float, Path]] = field(default_factory=lambda: [(0.0, ())])
    """Heap of (negative log-probability, path)."""
    results: list[ScoredLabel] = field(default_factory=list)


def search_labels(
    backend: Backend, prompts: Sequence[Sequence[int]], trie: LabelTrie, *, count: int = 1
) -> Iterator[list[ScoredLabel]]:
    """Yield the ``count`` most likely answers to each prompt, best first, in the order of the prompts.

    The common prefix of all prompts is computed once. Raises :class:`PromptTooLongError`.
    """
    for search in _run_searches(backend, prompts, trie, count, 0.0):
        yield search.results


def label_distributions(
    backend: Backend, prompts: Sequence[Sequence[int]], trie: LabelTrie, *, resolution: float = RESOLUTION
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the probabilities of all answers to each prompt: (answers,), sum 1.

    The most likely answer and all above ``resolution`` are exact. Below it, a branch of the trie is not computed any
    further: its answers share its probability equally. Raises :class:`PromptTooLongError`.
    """
    for search in _run_searches(backend, prompts, trie, len(trie.answers), resolution):
        probabilities = np.zeros(len(trie.answers))
        for label in search.results:
            probabilities[label.index] = label.probability
        for cost, path in search.frontier:
            if path in trie.leaves:
                probabilities[trie.leaves[path]] = math.exp(-cost)
                continue
            share = math.exp(-cost) / trie.num_answers[path]
            for answer, index in trie.leaves.items():
                if answer[: len(path)] == path:
                    probabilities[index] = share
        yield probabilities / probabilities.sum()


def _run_searches(
    backend: Backend, prompts: Sequence[Sequence[int]], trie: LabelTrie, count: int, resolution: float
) -> Iterator[_Search]:
    """Yield the finished search of each prompt."""
    if not prompts:
        return
    longest_answer = max(map(len, trie.answers))
    limit = backend.context_length - longest_answer
    for prompt in prompts:
        if len(prompt) > limit:
            raise PromptTooLongError(len(prompt), limit, "shorten it")
    prefix = common_prefix(prompt[:-1] for prompt in prompts)  # each prompt keeps a token, for its logits
    root = backend.allocate(max(1, len(prefix)))
    try:
        if prefix:
            backend.forward([Chunk(root, np.asarray(prefix, dtype=np.int32), LogitsNeeded.NONE)])
        done = 0
        while done < len(prompts):
            batch = prompts[done : done + BATCH_SIZE]
            searches = _search_batch(backend, batch, trie, count, resolution, root, len(prefix), longest_answer)
            yield from searches
            done += len(searches)
    finally:
        backend.release(root)


def _search_batch(
    backend: Backend,
    prompts: Sequence[Sequence[int]],
    trie: LabelTrie,
    count: int,
    resolution: float,
    root: SequenceId,
    prefix_length: int,
    longest_answer: int,
) -> list[_Search]:
    """Return the finished searches of as many of the prompts as fit the memory at once, at least one."""
    searches: list[_Search] = []
    try:
        for prompt in prompts:
            try:
                sequence = backend.fork(root, prefix_length, len(prompt) + longest_answer)
            except CacheFullError:
                if not searches:
                    raise
                break
            searches.append(_Search(list(prompt), sequence))
        while any(unfinished := [search for search in searches if _take_finished(search, trie, count, resolution)]):
            chunks = [_next_chunk(backend, search, trie) for search in unfinished]
            for search, logits in zip(unfinished, backend.forward(chunks), strict=True):
                _expand(search, logits[-1], trie)
        return searches
    finally:
        for search in searches:
            backend.release(search.sequence)


def _take_finished(search: _Search, trie: LabelTrie, count: int, resolution: float) -> bool:
    """Move finished answers from the front of the heap to the results. Return whether the search goes on.

    It ends with ``count`` answers, or with at least one when all others are below ``resolution``.
    """
    while search.frontier and len(search.results) < count:
        cost, path = search.frontier[0]
        if search.results and math.exp(-cost) < resolution:
            return False
        path = trie.extend_forced(path)
        if path not in trie.leaves:
            return True
        heapq.heappop(search.frontier)
        search.results.append(ScoredLabel(trie.leaves[path], math.exp(-cost)))
    return False


def _next_chunk(backend: Backend, search: _Search, trie: LabelTrie) -> Chunk:
    """Return the tokens of the front path that the cache does not hold."""
    path = trie.extend_forced(search.frontier[0][1])
    if search.computed_path is None:
        tokens = [*search.prompt[backend.length(search.sequence) :], *path]
    else:
        reused = reusable_length(search.computed_path, path)
        backend.truncate(search.sequence, len(search.prompt) + reused)
        tokens = list(path[reused:])
    search.computed_path = path
    return Chunk(search.sequence, np.asarray(tokens, dtype=np.int32))


def _expand(search: _Search, logits: npt.NDArray[np.float32], trie: LabelTrie) -> None:
    """Replace the front path by its children."""
    cost, path = heapq.heappop(search.frontier)
    path = trie.extend_forced(path)
    next_tokens = trie.children[path]
    scores = logits[next_tokens].astype(np.float64)
    scores -= scores.max()
    token_costs = math.log(float(np.exp(scores).sum())) - scores
    for token, token_cost in zip(next_tokens, token_costs, strict=True):
        heapq.heappush(search.frontier, (cost + float(token_cost), (*path, token)))
