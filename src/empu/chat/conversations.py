"""Conversations as trees of messages, and the feedback on their answers.

An edited question or a second answer is a sibling of the first; nothing is overwritten. A conversation shows the path
from its root to its ``leaf``. Each owner (the name of an API key) sees only their own conversations.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from empu.chat.database import ConversationDatabase, timestamp
from empu.errors import UsageError

MAX_TITLE_CHARS = 60
"""Length of a title taken from the first question."""
SNIPPET_CHARS_BEFORE = 16
"""Characters of a snippet before the match."""
SNIPPET_CHARS = 120
"""Characters of a snippet from the match on."""

_SELECT_MESSAGE = (
    "SELECT m.id, m.parent, m.role, m.content, m.facts, m.created_at, f.verdict, f.correction FROM message m "
    "LEFT JOIN feedback f ON f.message = m.id "
)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message, with the feedback on it.

    ``facts`` describe the generation of an answer: model, token counts, speeds, finish reason.
    """

    id: int
    parent: int | None
    role: str
    content: str
    facts: dict[str, Any]
    created_at: str
    verdict: str | None = None
    """Thumb ``up`` or ``down``."""
    correction: str | None = None
    """How the answer should have read."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its messages."""

    id: str
    title: str
    model: str
    settings: dict[str, Any]
    leaf: int | None
    """Last message of the path that is shown."""
    created_at: str
    updated_at: str
    snippet: str | None = None
    """Text around the first match of a search."""

    def to_json(self) -> dict[str, Any]:
        """Return the conversation under the property names of the HTTP API."""
        document = asdict(self)
        document["found"] = document.pop("snippet")
        return document


class ConversationStore:
    """All conversations of one store. May be used from any thread; calls take turns."""

    def __init__(self, home: Path) -> None:
        """Does not open or create the file; the first call does."""
        self._database = ConversationDatabase(home)
        self.path = self._database.path

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        self._database.close()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Group several calls in one transaction."""
        return self._database.transaction()

    # Conversations

    def create(self, owner: str, model: str, settings: Mapping[str, Any], title: str = "") -> Conversation:
        """Create an empty conversation."""
        now, conversation_id = timestamp(), secrets.token_hex(8)
        with self.transaction() as db:
            db.execute(
                "INSERT INTO conversation (id, owner, title, model, settings, leaf, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, NULL, ?, ?)",
                (conversation_id, owner, title, model, json.dumps(dict(settings)), now, now),
            )
        return self.get(owner, conversation_id)

    def list_conversations(
        self, owner: str, *, search: str = "", before: str | None = None, limit: int = 50
    ) -> tuple[list[Conversation], bool]:
        """Return the conversations last changed before ``before``, newest first, and whether there are more.

        ``search`` matches titles and messages without regard to case. A conversation without title whose first
        question was refused has no message and is not listed; :meth:`get` still returns it.
        """
        folded = search.casefold().strip()
        with self.transaction() as db:
            rows = db.execute(
                "SELECT c.id, c.title, c.model, c.settings, c.leaf, c.created_at, c.updated_at, (SELECT content FROM "
                "message m WHERE ?2 <> '' AND m.conversation = c.key AND instr(m.folded, ?2) LIMIT 1) AS found, "
                "instr(fold(c.title), ?2) AS titled FROM conversation c WHERE c.owner = ?1 "
                "AND (c.leaf IS NOT NULL OR c.title <> '') AND (?3 IS NULL OR c.updated_at < ?3) "
                "AND (?2 = '' OR titled OR found IS NOT NULL) "
                "ORDER BY c.updated_at DESC, c.key DESC LIMIT ?4",
                (owner, folded, before, limit + 1),
            ).fetchall()
        conversations = [_conversation(row[:7], _snippet(row[7], folded) if row[7] else None) for row in rows[:limit]]
        return conversations, len(rows) > limit

    def get(self, owner: str, conversation_id: str) -> Conversation:
        """Return one conversation. Raises :class:`~empu.errors.UsageError` if ``owner`` does not have it."""
        with self.transaction() as db:
            row = db.execute(
                "SELECT id, title, model, settings, leaf, created_at, updated_at FROM conversation "
                "WHERE owner = ? AND id = ?",
                (owner, conversation_id),
            ).fetchone()
        if row is None:
            raise UsageError(f"There is no conversation {conversation_id!r}; it may have been deleted.")
        return _conversation(row)

    def update(
        self,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        model: str | None = None,
        settings: Mapping[str, Any] | None = None,
        leaf: int | None = None,
    ) -> Conversation:
        """Change the given properties. Raises :class:`~empu.errors.UsageError` for a leaf of another conversation."""
        self.get(owner, conversation_id)
        with self.transaction() as db:
            if leaf is not None:
                _check_message(db, conversation_id, leaf)
            db.execute(
                "UPDATE conversation SET title = coalesce(?, title), model = coalesce(?, model), "
                "settings = coalesce(?, settings), leaf = coalesce(?, leaf) WHERE owner = ? AND id = ?",
                (title, model, None if settings is None else json.dumps(dict(settings)), leaf, owner, conversation_id),
            )
        return self.get(owner, conversation_id)

    def delete(self, owner: str, conversation_id: str | None = None) -> int:
        """Delete one conversation or all, with messages and feedback. Return the number of conversations deleted."""
        if conversation_id is not None:
            self.get(owner, conversation_id)
        with self.transaction() as db:
            return db.execute(
                "DELETE FROM conversation WHERE owner = ?1 AND (?2 IS NULL OR id = ?2)", (owner, conversation_id)
            ).rowcount

    # Messages

    def messages(self, owner: str, conversation_id: str) -> list[ChatMessage]:
        """Return the messages of all branches of a conversation, in the order of writing."""
        self.get(owner, conversation_id)
        with self.transaction() as db:
            rows = db.execute(
                _SELECT_MESSAGE + "JOIN conversation c ON c.key = m.conversation WHERE c.id = ? ORDER BY m.id",
                (conversation_id,),
            ).fetchall()
        return [_message(row) for row in rows]

    def path_to(self, owner: str, conversation_id: str, leaf: int | None) -> list[ChatMessage]:
        """Return the messages from the root to ``leaf``.

        Raises :class:`~empu.errors.UsageError` for a leaf of another conversation.
        """
        if leaf is None:
            return []
        by_id = {message.id: message for message in self.messages(owner, conversation_id)}
        path: list[ChatMessage] = []
        current: int | None = leaf
        while current is not None:
            if current not in by_id:
                raise UsageError(f"The conversation has no message {leaf}; load the page again.")
            path.append(by_id[current])
            current = by_id[current].parent
        return path[::-1]

    def add_message(
        self,
        owner: str,
        conversation_id: str,
        parent: int | None,
        role: str,
        content: str,
        facts: Mapping[str, Any] | None = None,
    ) -> ChatMessage:
        """Append a message to ``parent`` and make it the leaf. The first question becomes a missing title.

        Raises :class:`~empu.errors.UsageError` for a parent of another conversation.
        """
        self.get(owner, conversation_id)
        now = timestamp()
        with self.transaction() as db:
            if parent is not None:
                _check_message(db, conversation_id, parent)
            message = db.execute(
                "INSERT INTO message (conversation, parent, role, content, folded, facts, created_at) "
                "SELECT key, ?, ?, ?, ?, ?, ? FROM conversation WHERE id = ?",
                (parent, role, content, content.casefold(), json.dumps(dict(facts or {})), now, conversation_id),
            ).lastrowid
            title = _title(content) if role == "user" else ""
            db.execute(
                "UPDATE conversation SET leaf = ?, updated_at = ?, title = iif(title = '', ?, title) WHERE id = ?",
                (message, now, title, conversation_id),
            )
            return _message(db.execute(_SELECT_MESSAGE + "WHERE m.id = ?", (message,)).fetchone())

    def update_message(
        self, owner: str, conversation_id: str, message: int, content: str, facts: Mapping[str, Any] | None = None
    ) -> ChatMessage:
        """Replace the content and facts of a message that is still being generated.

        Raises :class:`~empu.errors.UsageError` for a message of another conversation.
        """
        self.get(owner, conversation_id)
        with self.transaction() as db:
            _check_message(db, conversation_id, message)
            db.execute(
                "UPDATE message SET content = ?, folded = ?, facts = ? WHERE id = ?",
                (content, content.casefold(), json.dumps(dict(facts or {})), message),
            )
            db.execute("UPDATE conversation SET updated_at = ? WHERE id = ?", (timestamp(), conversation_id))
            return _message(db.execute(_SELECT_MESSAGE + "WHERE m.id = ?", (message,)).fetchone())

    # Feedback

    def set_feedback(self, owner: str, message: int, verdict: str | None, correction: str | None) -> ChatMessage:
        """Set the verdict (``up`` or ``down``) and the correction of an answer; both ``None`` delete its feedback.

        Raises :class:`~empu.errors.UsageError` unless it is an answer in a conversation of ``owner``.
        """
        with self.transaction() as db:
            row = db.execute(
                "SELECT m.role FROM message m JOIN conversation c ON c.key = m.conversation "
                "WHERE m.id = ? AND c.owner = ?",
                (message, owner),
            ).fetchone()
            if row is None or row[0] != "assistant":
                raise UsageError(f"There is no answer {message} to rate; it may have been deleted.")
            if verdict is None and correction is None:
                db.execute("DELETE FROM feedback WHERE message = ?", (message,))
            else:
                db.execute(
                    "INSERT INTO feedback (message, verdict, correction, at) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (message) DO UPDATE SET verdict = excluded.verdict, correction = excluded.correction, "
                    "at = excluded.at",
                    (message, verdict, correction, timestamp()),
                )
            return _message(db.execute(_SELECT_MESSAGE + "WHERE m.id = ?", (message,)).fetchone())

    def rated_messages(self, owner: str) -> list[tuple[Conversation, ChatMessage]]:
        """Return every answer with feedback and its conversation, oldest feedback first."""
        with self.transaction() as db:
            rows = db.execute(
                "SELECT c.id, m.id FROM feedback f JOIN message m ON m.id = f.message JOIN conversation c "
                "ON c.key = m.conversation WHERE c.owner = ? ORDER BY f.at, m.id",
                (owner,),
            ).fetchall()
            rated = []
            for conversation_id, message in rows:
                row = db.execute(_SELECT_MESSAGE + "WHERE m.id = ?", (message,)).fetchone()
                rated.append((self.get(owner, conversation_id), _message(row)))
        return rated


def _check_message(db: sqlite3.Connection, conversation_id: str, message: int) -> None:
    row = db.execute(
        "SELECT 1 FROM message m JOIN conversation c ON c.key = m.conversation WHERE m.id = ? AND c.id = ?",
        (message, conversation_id),
    ).fetchone()
    if row is None:
        raise UsageError(f"The conversation has no message {message}; load the page again.")


def _conversation(row: Sequence[Any], snippet: str | None = None) -> Conversation:
    conversation_id, title, model, settings, leaf, created_at, updated_at = row
    return Conversation(conversation_id, title, model, json.loads(settings), leaf, created_at, updated_at, snippet)


def _message(row: Sequence[Any]) -> ChatMessage:
    message_id, parent, role, content, facts, created_at, verdict, correction = row
    return ChatMessage(message_id, parent, role, content, json.loads(facts), created_at, verdict, correction)


def _title(text: str) -> str:
    """Shorten a question to a title."""
    title = " ".join(text.split())
    return title if len(title) <= MAX_TITLE_CHARS else title[: MAX_TITLE_CHARS - 1].rstrip() + "…"


def _snippet(text: str, folded: str) -> str:
    """Return the part of ``text`` from the word before the match on, so that a narrow list shows the match."""
    position = max(0, text.casefold().find(folded))
    before = text[max(0, position - SNIPPET_CHARS_BEFORE) : position].lstrip()
    if position > SNIPPET_CHARS_BEFORE and " " in before.strip():
        before = before.split(" ", 1)[1]
    snippet = " ".join((before + text[position : position + SNIPPET_CHARS]).split())
    return ("…" if position > SNIPPET_CHARS_BEFORE else "") + snippet
