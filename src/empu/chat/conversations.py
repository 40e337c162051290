"""Conversations and what people thought of the answers, kept in ``<home>/conversations.db`` (mode 0600).

Messages form a tree: an edited question or another answer is a sibling, and nothing is overwritten. A conversation
shows the path from its ``leaf`` to the root. Whoever has a key sees the conversations of that key only.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from empu.errors import StoreError, UsageError

FILE = "conversations.db"
LONGEST_TITLE = 60
"""Characters of the first question that become the title."""
BEFORE = 16
"""Characters before what was searched for that are shown."""
_TABLES = """
CREATE TABLE conversation (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, title TEXT NOT NULL, model TEXT NOT NULL,
    settings TEXT NOT NULL, leaf INTEGER, created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE INDEX conversation_by_time ON conversation (owner, updated_at);
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,
    parent INTEGER REFERENCES message, role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    content TEXT NOT NULL, folded TEXT NOT NULL, facts TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE INDEX message_by_conversation ON message (conversation);
CREATE TABLE feedback (
    message INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE,
    verdict TEXT CHECK (verdict IN ('up', 'down')), correction TEXT, at TEXT NOT NULL);
"""
_MESSAGE = (
    "SELECT m.id, m.parent, m.role, m.content, m.facts, m.created_at, f.verdict, f.correction FROM message m "
    "LEFT JOIN feedback f ON f.message = m.id "
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``facts`` are what is known of an answer: model, counts, speeds, why it ended."""

    id: int
    parent: int | None
    role: str
    content: str
    facts: dict[str, Any]
    created_at: str
    verdict: str | None = None
    correction: str | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """A conversation without its messages. ``found`` is the piece of text around what was searched for."""

    id: str
    title: str
    model: str
    settings: dict[str, Any]
    leaf: int | None
    created_at: str
    updated_at: str
    found: str | None = None


class Conversations:
    """All conversations of one store. May be used from any thread; calls take turns."""

    def __init__(self, home: Path) -> None:
        """Nothing is opened or made before the first call."""
        self.path = home / FILE
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # Conversations

    def begin(self, owner: str, model: str, settings: Mapping[str, Any], title: str = "") -> Heading:
        """A new, empty conversation."""
        now, identity = _now(), secrets.token_hex(8)
        with self.using() as db:
            db.execute(
                "INSERT INTO conversation (id, owner, title, model, settings, leaf, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, NULL, ?, ?)",
                (identity, owner, title, model, json.dumps(dict(settings)), now, now),
            )
        return self.heading(owner, identity)

    def headings(
        self, owner: str, *, search: str = "", before: str | None = None, limit: int = 50
    ) -> tuple[list[Heading], bool]:
        """Newest first, those that changed before ``before``, and whether there are more.

        ``search`` is looked for in titles and messages, without regard to capitals. One whose first question was
        refused has neither a message nor a title and is left out, though it can still be asked.
        """
        folded = search.casefold().strip()
        with self.using() as db:
            rows = db.execute(
                "SELECT c.id, c.title, c.model, c.settings, c.leaf, c.created_at, c.updated_at, (SELECT content FROM "
                "message m WHERE ?2 <> '' AND m.conversation = c.key AND instr(m.folded, ?2) LIMIT 1) AS found, "
                "instr(fold(c.title), ?2) AS titled FROM conversation c WHERE c.owner = ?1 "
                "AND (c.leaf IS NOT NULL OR c.title <> '') AND (?3 IS NULL OR c.updated_at < ?3) "
                "AND (?2 = '' OR titled OR found IS NOT NULL) "
                "ORDER BY c.updated_at DESC, c.key DESC LIMIT ?4",
                (owner, folded, before, limit + 1),
            ).fetchall()
        return [_heading(row[:7], _around(row[7], folded) if row[7] else None) for row in rows[:limit]], len(
            rows
        ) > limit

    def heading(self, owner: str, identity: str) -> Heading:
        """One conversation. Raises :class:`~empu.errors.UsageError` when ``owner`` has none of that id."""
        with self.using() as db:
            row = db.execute(
                "SELECT id, title, model, settings, leaf, created_at, updated_at FROM conversation "
                "WHERE owner = ? AND id = ?",
                (owner, identity),
            ).fetchone()
        if row is None:
            raise UsageError(f"There is no conversation {identity!r}; it may have been deleted.")
        return _heading(row)

    def change(
        self,
        owner: str,
        identity: str,
        *,
        title: str | None = None,
        model: str | None = None,
        settings: Mapping[str, Any] | None = None,
        leaf: int | None = None,
    ) -> Heading:
        """Change what is given. Raises :class:`~empu.errors.UsageError` for a leaf that is not of this conversation."""
        self.heading(owner, identity)
        with self.using() as db:
            if leaf is not None:
                self._belongs(db, identity, leaf)
            db.execute(
                "UPDATE conversation SET title = coalesce(?, title), model = coalesce(?, model), "
                "settings = coalesce(?, settings), leaf = coalesce(?, leaf) WHERE owner = ? AND id = ?",
                (title, model, None if settings is None else json.dumps(dict(settings)), leaf, owner, identity),
            )
        return self.heading(owner, identity)

    def delete(self, owner: str, identity: str | None = None) -> int:
        """Delete one conversation or all, with their messages and feedback; how many there were."""
        if identity is not None:
            self.heading(owner, identity)
        with self.using() as db:
            done = db.execute(
                "DELETE FROM conversation WHERE owner = ?1 AND (?2 IS NULL OR id = ?2)", (owner, identity)
            )
            return done.rowcount

    # Messages

    def messages(self, owner: str, identity: str) -> list[Message]:
        """Every message of a conversation, of all its branches, in the order of writing."""
        self.heading(owner, identity)
        with self.using() as db:
            rows = db.execute(
                _MESSAGE + "JOIN conversation c ON c.key = m.conversation WHERE c.id = ? ORDER BY m.id", (identity,)
            ).fetchall()
        return [_message(row) for row in rows]

    def path_to(self, owner: str, identity: str, leaf: int | None) -> list[Message]:
        """The messages from the root to ``leaf``. Raises :class:`~empu.errors.UsageError` for one of elsewhere."""
        if leaf is None:
            return []
        by_id = {message.id: message for message in self.messages(owner, identity)}
        path: list[Message] = []
        at: int | None = leaf
        while at is not None:
            if at not in by_id:
                raise UsageError(f"The conversation has no message {leaf}; load the page again.")
            path.append(by_id[at])
            at = by_id[at].parent
        return path[::-1]

    def add(
        self,
        owner: str,
        identity: str,
        parent: int | None,
        role: str,
        content: str,
        facts: Mapping[str, Any] | None = None,
    ) -> Message:
        """Put a message behind ``parent`` and make it the leaf. The first question names a conversation without title.

        Raises :class:`~empu.errors.UsageError` for a parent that is not of this conversation.
        """
        self.heading(owner, identity)
        now = _now()
        with self.using() as db:
            if parent is not None:
                self._belongs(db, identity, parent)
            made = db.execute(
                "INSERT INTO message (conversation, parent, role, content, folded, facts, created_at) "
                "SELECT key, ?, ?, ?, ?, ?, ? FROM conversation WHERE id = ?",
                (parent, role, content, content.casefold(), json.dumps(dict(facts or {})), now, identity),
            ).lastrowid
            title = _title(content) if role == "user" else ""
            db.execute(
                "UPDATE conversation SET leaf = ?, updated_at = ?, title = iif(title = '', ?, title) WHERE id = ?",
                (made, now, title, identity),
            )
            return _message(db.execute(_MESSAGE + "WHERE m.id = ?", (made,)).fetchone())

    def rewrite(
        self, owner: str, identity: str, message: int, content: str, facts: Mapping[str, Any] | None = None
    ) -> Message:
        """Give a message that was begun its words so far.

        Raises :class:`~empu.errors.UsageError` for one that is not of this conversation.
        """
        self.heading(owner, identity)
        with self.using() as db:
            self._belongs(db, identity, message)
            db.execute(
                "UPDATE message SET content = ?, folded = ?, facts = ? WHERE id = ?",
                (content, content.casefold(), json.dumps(dict(facts or {})), message),
            )
            db.execute("UPDATE conversation SET updated_at = ? WHERE id = ?", (_now(), identity))
            return _message(db.execute(_MESSAGE + "WHERE m.id = ?", (message,)).fetchone())

    def judge(self, owner: str, message: int, verdict: str | None, correction: str | None) -> Message:
        """What somebody thinks of an answer: ``up``, ``down``, and how it should have read; both ``None``: nothing.

        Raises :class:`~empu.errors.UsageError` unless it is an answer in one of ``owner``'s conversations.
        """
        with self.using() as db:
            row = db.execute(
                "SELECT m.role FROM message m JOIN conversation c ON c.key = m.conversation "
                "WHERE m.id = ? AND c.owner = ?",
                (message, owner),
            ).fetchone()
            if row is None or row[0] != "assistant":
                raise UsageError(f"There is no answer {message} to judge; it may have been deleted.")
            if verdict is None and correction is None:
                db.execute("DELETE FROM feedback WHERE message = ?", (message,))
            else:
                db.execute(
                    "INSERT INTO feedback (message, verdict, correction, at) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (message) DO UPDATE SET verdict = excluded.verdict, correction = excluded.correction, "
                    "at = excluded.at",
                    (message, verdict, correction, _now()),
                )
            return _message(db.execute(_MESSAGE + "WHERE m.id = ?", (message,)).fetchone())

    def judged(self, owner: str) -> list[tuple[Heading, Message]]:
        """Every answer that somebody judged, with its conversation, oldest first."""
        with self.using() as db:
            rows = db.execute(
                "SELECT c.id, m.id FROM feedback f JOIN message m ON m.id = f.message JOIN conversation c "
                "ON c.key = m.conversation WHERE c.owner = ? ORDER BY f.at, m.id",
                (owner,),
            ).fetchall()
            found = []
            for conversation, message in rows:
                row = db.execute(_MESSAGE + "WHERE m.id = ?", (message,)).fetchone()
                found.append((self.heading(owner, conversation), _message(row)))
        return found

    # The file

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one transaction that is kept whole or not at all."""
        with self._lock:
            try:
                db = self._connection or self._open()
                if db.in_transaction:  # a call inside another is part of it
                    yield db
                    return
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    yield db
            except OverflowError as error:
                raise UsageError("There is no message of such a large number; load the page again.") from error
            except (sqlite3.Error, OSError) as error:
                raise StoreError(
                    f"{self.path} cannot be used ({error}); nothing of this step was kept: check the disk and its room."
                ) from error

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            db.create_function("fold", 1, str.casefold, deterministic=True)
            for pragma in ("journal_mode=DELETE", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                db.execute(f"PRAGMA {pragma}")
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                self._create(db)
            yesterday = _now(timedelta(days=1))
            db.execute("DELETE FROM conversation WHERE leaf IS NULL AND title = '' AND updated_at < ?", (yesterday,))
        except BaseException:
            db.close()
            raise
        self._connection = db
        return db

    def _create(self, db: sqlite3.Connection) -> None:
        try:
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version=1; COMMIT;")
        except sqlite3.OperationalError:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                raise  # otherwise another process was first

    def _belongs(self, db: sqlite3.Connection, identity: str, message: int) -> None:
        found = db.execute(
            "SELECT 1 FROM message m JOIN conversation c ON c.key = m.conversation WHERE m.id = ? AND c.id = ?",
            (message, identity),
        ).fetchone()
        if found is None:
            raise UsageError(f"The conversation has no message {message}; load the page again.")


def _heading(row: Sequence[Any], found: str | None = None) -> Heading:
    identity, title, model, settings, leaf, created_at, updated_at = row
    return Heading(identity, title, model, json.loads(settings), leaf, created_at, updated_at, found)


def _message(row: Sequence[Any]) -> Message:
    identity, parent, role, content, facts, created_at, verdict, correction = row
    return Message(identity, parent, role, content, json.loads(facts), created_at, verdict, correction)


def _title(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_TITLE else words[: LONGEST_TITLE - 1].rstrip() + "…"


def _around(text: str, folded: str) -> str:
    """A piece of ``text`` that begins with the word before what was found, so that a narrow list shows it."""
    hit = max(0, text.casefold().find(folded))
    before = text[max(0, hit - BEFORE) : hit].lstrip()
    if hit > BEFORE and " " in before.strip():
        before = before.split(" ", 1)[1]
    return ("…" if hit > BEFORE else "") + " ".join((before + text[hit : hit + 120]).split())


def _now(ago: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) - ago).isoformat(timespec="microseconds")
