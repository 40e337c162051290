"""Speculation from a text's own words: what followed the last few tokens before, as a guess at what follows now.

A guess is read together with the last token, and the logits behind each of its tokens say whether it was right. On a
backend that is ``exact`` they are the bits that reading token by token gives, so speculation changes no answer, sampled
ones neither; only the time. ("Prompt lookup", Saxena 2023; "lookahead without a draft model".)
"""

from __future__ import annotations

from collections.abc import Sequence

CONTEXT = 3
"""Tokens that must be the same for what followed them to be a guess."""
LONGEST = 8
PAUSE = 32
"""After wrong guesses at most this many tokens are written without one."""


class Drafts:
    """The guesses of one answer. They grow while they are right and pause while they are wrong."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._length = 2
        self._pause = self._waited = 0
        self.add(ids)

    def add(self, tokens: Sequence[int]) -> None:
        """What stands behind the text now."""
        for token in tokens:
            if len(self._ids) >= CONTEXT:
                self._after[tuple(self._ids[-CONTEXT:])] = len(self._ids)
            self._ids.append(token)

    def guess(self, most: int = LONGEST) -> list[int]:
        """At most ``most`` tokens; none where nothing is known or guessing has not paid lately."""
        if self._waited < self._pause:
            self._waited += 1
            return []
        found = self._after.get(tuple(self._ids[-CONTEXT:]))
        return [] if found is None or most < 1 else self._ids[found : found + min(self._length, most)]

    def judge(self, guessed: int, right: int) -> None:
        """``right`` of ``guessed`` tokens were."""
        if right == guessed:
            self._length = min(2 * self._length, LONGEST)
            self._pause = 0
        else:
            self._length = max(1, right)
            self._pause = 0 if right else min(2 * self._pause + 1, PAUSE)
        self._waited = 0
