"""Prompt lookup: speculative decoding without a draft model. Drafts are copied from earlier text of the sequence.

What followed the last few tokens before is a draft of what follows now. The draft is computed together with the last
token, and the logits at each of its tokens verify it. A ``batch_invariant`` backend gives the same bits as decoding
token by token, so the output does not change, sampled or not; only the time does. ("Prompt lookup decoding", Saxena
2023.)
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM_SIZE = 3
"""Last tokens that must occur earlier for a draft to be proposed."""
MAX_DRAFT_TOKENS = 8
MAX_PAUSE = 32
"""After rejected drafts, at most this many tokens are generated without a draft."""


class PromptLookup:
    """Proposes drafts for one sequence. They grow while they are accepted and pause while they are rejected."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._ids: list[int] = []
        self._next_position: dict[tuple[int, ...], int] = {}
        """N-gram -> position of the token that followed its last occurrence."""
        self._draft_length = 2
        self._pause = self._skipped = 0
        self.extend(ids)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens of the sequence."""
        for token in tokens:
            if len(self._ids) >= NGRAM_SIZE:
                self._next_position[tuple(self._ids[-NGRAM_SIZE:])] = len(self._ids)
            self._ids.append(token)

    def propose(self, max_tokens: int = MAX_DRAFT_TOKENS) -> list[int]:
        """Return a draft of at most ``max_tokens``; empty where no n-gram matches, or during a pause."""
        if self._skipped < self._pause:
            self._skipped += 1
            return []
        start = self._next_position.get(tuple(self._ids[-NGRAM_SIZE:]))
        return [] if start is None or max_tokens < 1 else self._ids[start : start + min(self._draft_length, max_tokens)]

    def record_result(self, proposed: int, accepted: int) -> None:
        """Adapt to a draft of ``proposed`` tokens, of which ``accepted`` were right."""
        if accepted == proposed:
            self._draft_length = min(2 * self._draft_length, MAX_DRAFT_TOKENS)
            self._pause = 0
        else:
            self._draft_length = max(1, accepted)
            self._pause = 0 if accepted else min(2 * self._pause + 1, MAX_PAUSE)
        self._skipped = 0
