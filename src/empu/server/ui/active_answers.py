"""Answers in progress, by conversation, so that they can be stopped."""

from __future__ import annotations

from collections import defaultdict

from empu.serving.completions import AnyStream, CompletionStream

ConversationKey = tuple[str, str]
"""(owner, conversation id)."""


class ActiveAnswer:
    """One answer, from the request on. It may be stopped before it starts."""

    def __init__(self) -> None:
        self._stream: AnyStream | None = None
        self._is_stopped = False

    def start(self, stream: AnyStream) -> None:
        """Attach the stream that generates the answer."""
        self._stream = stream
        if self._is_stopped:
            self.stop()

    def stop(self) -> bool:
        """Stop the answer. Returns ``False`` for a label, which cannot be stopped."""
        self._is_stopped = True
        if isinstance(self._stream, CompletionStream):
            self._stream.cancel()
        return self._stream is None or isinstance(self._stream, CompletionStream)


class ActiveAnswers:
    """All answers in progress."""

    def __init__(self) -> None:
        self._answers: defaultdict[ConversationKey, list[ActiveAnswer]] = defaultdict(list)

    def add(self, key: ConversationKey) -> ActiveAnswer:
        """Register a requested answer."""
        answer = ActiveAnswer()
        self._answers[key].append(answer)
        return answer

    def remove(self, key: ConversationKey, answer: ActiveAnswer) -> None:
        """Remove an answer that ended."""
        self._answers[key].remove(answer)
        if not self._answers[key]:
            del self._answers[key]

    def stop(self, owner: str, conversation: str | None = None) -> int:
        """Stop the owner's answers, in one conversation or in all. Returns how many were stopped."""
        keys = [key for key in self._answers if key[0] == owner and conversation in (None, key[1])]
        return sum(answer.stop() for key in keys for answer in self._answers[key])
