"""Answers on their way into the store. What there is of one is kept now and then, so that a server that ends, however
it ends, leaves it; all writing is done by one thread, so that no lock of the file ever stops the event loop.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from empu.chat.conversations import Conversations, Message
from empu.errors import EmpuError
from empu.serving.completions import Answers, AnyAnswers

log = logging.getLogger("empu.server")

KEEP_S = 1.0
"""Between two times that an answer in progress is kept."""


Place = tuple[str, str]
"""An owner, and one of their conversations."""


class Ongoing:
    """One answer in a conversation, from the moment it is asked for; it may be stopped before it begins."""

    def __init__(self) -> None:
        self._answers: AnyAnswers | None = None
        self._stopped = False

    def begin(self, answers: AnyAnswers) -> None:
        """The answers are on their way."""
        self._answers = answers
        if self._stopped:
            self.stop()

    def stop(self) -> bool:
        """End it; ``False`` for what cannot be stopped: a label comes at once or not at all."""
        self._stopped = True
        if isinstance(self._answers, Answers):
            self._answers.cancel()
        return self._answers is None or isinstance(self._answers, Answers)


class Writing:
    """The answers that are being written, by conversation, and the thread that keeps them."""

    def __init__(self, conversations: Conversations) -> None:
        self.conversations = conversations
        self._ongoing: defaultdict[Place, list[Ongoing]] = defaultdict(list)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="empu-conversations")

    def close(self) -> None:
        """Wait for what is still to be kept."""
        self._writer.shutdown()
        self.conversations.close()

    def begin(self, place: Place) -> Ongoing:
        """An answer was asked for."""
        ongoing = Ongoing()
        self._ongoing[place].append(ongoing)
        return ongoing

    def end(self, place: Place, ongoing: Ongoing) -> None:
        """It is written, or will not be."""
        self._ongoing[place].remove(ongoing)
        if not self._ongoing[place]:
            del self._ongoing[place]

    def stop(self, owner: str, conversation: str | None = None) -> int:
        """End the owner's answers in progress, in one conversation or in all; how many."""
        places = [place for place in self._ongoing if place[0] == owner and conversation in (None, place[1])]
        return sum(ongoing.stop() for place in places for ongoing in self._ongoing[place])

    def draft(self, owner: str, conversation: str, question: int) -> Draft:
        """An answer to be kept."""
        return Draft(self, owner, conversation, question)

    def submit(self, draft: Draft, text: str, facts: Mapping[str, Any]) -> Future[Message]:
        """Keep the draft as it is now."""
        return self._writer.submit(draft.write, text, facts)


class Draft:
    """An answer, kept from time to time and at its end as one message."""

    def __init__(self, writing: Writing, owner: str, conversation: str, question: int) -> None:
        self._writing = writing
        self._place = (owner, conversation, question)
        self._message: int | None = None
        self._kept_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to keep it again."""
        now = time.monotonic()
        if now - self._kept_at < KEEP_S:
            return False
        self._kept_at = now
        return True

    def keep(self, text: str, facts: Mapping[str, Any]) -> Future[Message]:
        """Write it in the writer's thread; whoever needs to know waits for the message."""
        return self._writing.submit(self, text, facts)

    def write(self, text: str, facts: Mapping[str, Any]) -> Message:
        """In the writer's thread."""
        owner, conversation, question = self._place
        kept = self._writing.conversations
        try:
            if self._message is None:
                message = kept.add(owner, conversation, question, "assistant", text, facts)
            else:
                message = kept.rewrite(owner, conversation, self._message, text, facts)
        except EmpuError as error:
            log.error("An answer was not kept: %s", error)
            raise
        self._message = message.id
        return message
