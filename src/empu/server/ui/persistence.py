"""Saves answers while they are generated, so that the text so far survives if the server is killed.

One thread does all writing, so a lock of the database file never blocks the event loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from empu.chat.conversations import ChatMessage, ConversationStore
from empu.errors import EmpuError

log = logging.getLogger("empu.server")

SAVE_INTERVAL_S = 1.0
"""Time between two saves of an answer in progress."""


class AnswerWriter:
    """The thread that writes answers."""

    def __init__(self, conversations: ConversationStore) -> None:
        self.conversations = conversations
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="empu-conversations")

    def close(self) -> None:
        """Wait for pending writes, then close the file."""
        self._executor.shutdown()
        self.conversations.close()

    def draft(self, owner: str, conversation: str, question: int) -> AnswerDraft:
        """Return a new draft of the answer to a question."""
        return AnswerDraft(self, owner, conversation, question)

    def submit(self, draft: AnswerDraft, text: str, facts: Mapping[str, Any]) -> Future[ChatMessage]:
        """Write a draft in the writer's thread."""
        return self._executor.submit(draft.write, text, facts)


class AnswerDraft:
    """An answer in progress, saved from time to time and at its end as one message."""

    def __init__(self, writer: AnswerWriter, owner: str, conversation: str, question: int) -> None:
        self._writer = writer
        self._owner = owner
        self._conversation = conversation
        self._question = question
        self._message_id: int | None = None
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether it is time for the next save, and restart the interval if so."""
        now = time.monotonic()
        if now - self._saved_at < SAVE_INTERVAL_S:
            return False
        self._saved_at = now
        return True

    def save(self, text: str, facts: Mapping[str, Any]) -> Future[ChatMessage]:
        """Save the text in the writer's thread. The future holds the message."""
        return self._writer.submit(self, text, facts)

    def write(self, text: str, facts: Mapping[str, Any]) -> ChatMessage:
        """Write the message; called in the writer's thread."""
        store = self._writer.conversations
        try:
            if self._message_id is None:
                message = store.add_message(self._owner, self._conversation, self._question, "assistant", text, facts)
            else:
                message = store.update_message(self._owner, self._conversation, self._message_id, text, facts)
        except EmpuError as error:
            log.error("An answer was not saved: %s", error)
            raise
        self._message_id = message.id
        return message
