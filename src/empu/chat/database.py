"""SQLite database of conversations, messages and feedback: schema, transactions, and one thread at a time."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from empu.errors import StoreError, UsageError

FILE_NAME = "conversations.db"
LOCK_TIMEOUT_S = 10
KEEP_EMPTY = timedelta(days=1)
"""Age at which a conversation without messages and title is deleted."""

_SCHEMA = """
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


class ConversationDatabase:
    """The file ``<home>/conversations.db`` (mode 0600). May be used from any thread; calls take turns."""

    def __init__(self, home: Path) -> None:
        """Does not open the file; the first call does."""
        self.path = home / FILE_NAME
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction. A nested transaction is part of the outer one."""
        with self._lock:
            try:
                connection = self._connection or self._open()
                if connection.in_transaction:
                    yield connection
                    return
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
            except OverflowError as error:
                raise UsageError("No message has a number this large; load the page again.") from error
            except (sqlite3.Error, OSError) as error:
                raise StoreError(
                    f"{self.path} cannot be used ({error}); nothing was saved: check the disk and its free space."
                ) from error

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.create_function("fold", 1, str.casefold, deterministic=True)
            for pragma in ("journal_mode=DELETE", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                connection.execute(f"PRAGMA {pragma}")
            if _schema_version(connection) == 0:
                _create_tables(connection)
            connection.execute(
                "DELETE FROM conversation WHERE leaf IS NULL AND title = '' AND updated_at < ?",
                (timestamp(KEEP_EMPTY),),
            )
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


def timestamp(ago: timedelta = timedelta()) -> str:
    """Return the time ``ago`` before now as it is stored: UTC, ISO 8601, with microseconds."""
    return (datetime.now(UTC) - ago).isoformat(timespec="microseconds")


def _create_tables(connection: sqlite3.Connection) -> None:
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version=1; COMMIT;")
    except sqlite3.OperationalError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if _schema_version(connection) == 0:
            raise  # otherwise another process created the tables first


def _schema_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
