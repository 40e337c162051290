"""SQLite connection of the ledger: opening, migrations, transactions, and one writing process at a time.

The database uses a rollback journal, not a write-ahead log. SQLite 3.7.0 to 3.51.2, which most machines have, can lose
a committed transaction when a checkpoint and a write coincide (the WAL-reset race, fixed in 3.51.3), and no setting
avoids that. ``synchronous=EXTRA`` also flushes the folder after the journal is deleted, so that an acknowledged commit
survives a power failure.

A lock file beside the database serialises writers. It names the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from empu.errors import StoreError
from empu.ledger.migrations import MIGRATIONS, statements

LOCK_TIMEOUT_S = 30.0
"""Seconds that a writer waits for another process."""

CACHE_KIB = 64 << 10
LOCK_POLL_S = 0.02


class Database:
    """One connection to the ledger. Use it only from the thread that opened it."""

    def __init__(self, path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Open or create the file at ``path``. Raises :class:`~empu.errors.StoreError`."""
        self.path = path
        self.timeout_s = timeout_s
        self._depth = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"The ledger {path} cannot be opened ({error}); check the folder and its permissions."
            ) from error
        try:
            self._configure()
        except BaseException:
            self._connection.close()
            raise

    def _configure(self) -> None:
        (mode,) = self.fetch_one("PRAGMA journal_mode=DELETE")
        if mode != "delete":
            raise StoreError(
                f"The ledger {self.path} has the journal mode {mode!r} and is in use; close the other program first."
            )
        for pragma in ("synchronous=EXTRA", "foreign_keys=ON", "secure_delete=ON", f"cache_size=-{CACHE_KIB}"):
            self.execute(f"PRAGMA {pragma}")
        if self.version() < len(MIGRATIONS):
            with self.transaction():
                for number in range(self.version() + 1, len(MIGRATIONS) + 1):
                    for statement in statements(MIGRATIONS[number - 1]):
                        self.execute(statement)
                    self.execute(f"PRAGMA user_version={number}")
        if self.version() > len(MIGRATIONS):
            raise StoreError(
                f"The ledger {self.path} was written by a newer Empu (schema version {self.version()}, "
                f"this one supports up to {len(MIGRATIONS)}); update Empu."
            )

    def version(self) -> int:
        """Return the schema version: the number of migrations applied to the file."""
        return int(self.fetch_one("PRAGMA user_version")[0])

    def close(self) -> None:
        """Close the connection. An open transaction is rolled back."""
        self._connection.close()

    # Queries

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement. Raises :class:`~empu.errors.StoreError`."""
        with self._translate_errors():
            return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement once for each row of values."""
        with self._translate_errors():
            self._connection.executemany(sql, rows)

    def fetch_one(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...]:
        """Return the first row of the result, which must exist."""
        row = self.fetch_first(sql, values)
        if row is None:
            raise StoreError(f"The ledger {self.path} lacks a record that must exist; run: empu verify MODEL")
        return row

    def fetch_first(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """Return the first row of the result; ``None`` if it is empty."""
        with self._translate_errors():
            row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
            return row

    def iterate(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of the result."""
        with self._translate_errors():
            yield from self._connection.execute(sql, values)

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in one transaction. A nested transaction is part of the outer one."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        with self._write_lock():
            self.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise
            finally:
                self._depth = 0

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        """Hold the lock file beside the database. Waits at most ``timeout_s`` seconds for another process."""
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            file = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{lock} cannot be written ({error.strerror}); check the folder's permissions.") from error
        try:
            deadline = time.monotonic() + self.timeout_s
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "another process"
                        raise StoreError(
                            f"The ledger {self.path} has been locked by {holder} for more than {self.timeout_s:g} s; "
                            "wait for it to finish and try again."
                        ) from None
                    time.sleep(LOCK_POLL_S)
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()}".encode(), 0)
            yield
        finally:
            os.close(file)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Convert SQLite errors into :class:`~empu.errors.StoreError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(self._describe(error)) from error

    def _describe(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        messages = {
            sqlite3.SQLITE_FULL: f"There is no room left for the ledger {self.path}; nothing was "
            "recorded: free some space and try again.",
            sqlite3.SQLITE_IOERR: f"The disk failed under the ledger {self.path} ({error}); nothing was "
            "recorded: check the disk and its free space, and try again.",
            sqlite3.SQLITE_NOTADB: f"{self.path} is not a ledger; move it away, or set EMPU_HOME to another folder.",
            sqlite3.SQLITE_CORRUPT: f"The ledger {self.path} is damaged ({error}); restore it from a copy.",
            sqlite3.SQLITE_READONLY: f"The ledger {self.path} cannot be written; give yourself write permission.",
            sqlite3.SQLITE_BUSY: f"The ledger {self.path} has been in use for {self.timeout_s:g} s; try again later.",
        }
        return messages.get(code, f"The ledger {self.path} rejected a statement ({error}); run: empu verify MODEL")
