"""The file under the ledger: opening it, bringing its tables up to date, and one writer at a time.

SQLite keeps a rollback journal here and not a write-ahead log: the versions 3.7.0 to 3.51.2, which most machines have,
can lose a committed transaction when a checkpoint and a write meet at the wrong moment (the WAL-reset race, mended in
3.51.3), and no setting avoids that. ``synchronous=EXTRA`` also flushes the folder after the journal is deleted, so that
a commit that was acknowledged outlives a loss of power.

A file lock beside the database lets one process write at a time, and names it to the one that waits.
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

WAIT_S = 30.0
"""How long a writer waits for another, in seconds."""

CACHE_KIB = 64 << 10


class Database:
    """One connection. Use it from the thread that opened it."""

    def __init__(self, path: Path, wait_s: float = WAIT_S) -> None:
        """Open or create the file at ``path``. Raises :class:`~empu.errors.StoreError`."""
        self.path = path
        self.wait_s = wait_s
        self._depth = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(path, timeout=wait_s, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"The ledger {path} cannot be opened ({error}); check the folder and its rights."
            ) from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        (mode,) = self.one("PRAGMA journal_mode=DELETE")
        if mode != "delete":
            raise StoreError(
                f"The ledger {self.path} keeps its journal as {mode!r} and is in use; close the other program first."
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
                f"The ledger {self.path} was written by a newer Empu (tables of version {self.version()}, this one "
                f"knows {len(MIGRATIONS)}); update Empu."
            )

    def version(self) -> int:
        """How many migrations the file has seen."""
        return int(self.one("PRAGMA user_version")[0])

    def close(self) -> None:
        """Close the connection; a transaction that is open is undone."""
        self._connection.close()

    # Asking

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement. Raises :class:`~empu.errors.StoreError` with a sentence."""
        with self._sentences():
            return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each of ``rows``."""
        with self._sentences():
            self._connection.executemany(sql, rows)

    def one(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...]:
        """The first row of the answer, which must be there."""
        row = self.first(sql, values)
        if row is None:
            raise StoreError(f"The ledger {self.path} gave no answer where it must; run its verification.")
        return row

    def first(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of the answer, or ``None``."""
        with self._sentences():
            row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
            return row

    def each(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """All rows of the answer, one at a time."""
        with self._sentences():
            yield from self._connection.execute(sql, values)

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens, or nothing. A transaction inside another is part of it."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        with self._writer():
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
    def _writer(self) -> Iterator[None]:
        """Hold the lock beside the database; wait at most ``wait_s`` seconds for another process."""
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            file = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{lock} cannot be written ({error.strerror}); check the folder's rights.") from error
        try:
            until = time.monotonic() + self.wait_s
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "another process"
                        raise StoreError(
                            f"The ledger {self.path} is being written by {holder} since more than {self.wait_s:g} s; "
                            "wait for it to finish and try again."
                        ) from None
                    time.sleep(0.02)
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()}".encode(), 0)
            yield
        finally:
            os.close(file)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(self._sentence(error)) from error

    def _sentence(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        told = {
            sqlite3.SQLITE_FULL: f"There is no room left for the ledger {self.path}; nothing of this step was "
            "recorded: free some space and repeat it.",
            sqlite3.SQLITE_IOERR: f"The disk failed under the ledger {self.path} ({error}); nothing of this step was "
            "recorded: check the disk and its free space, and repeat it.",
            sqlite3.SQLITE_NOTADB: f"{self.path} is not a ledger; move it away, or set EMPU_HOME to another folder.",
            sqlite3.SQLITE_CORRUPT: f"The ledger {self.path} is damaged ({error}); restore it from a copy.",
            sqlite3.SQLITE_READONLY: f"The ledger {self.path} cannot be written; give yourself the right.",
            sqlite3.SQLITE_BUSY: f"The ledger {self.path} is in use for over {self.wait_s:g} s; try again later.",
        }
        return told.get(code, f"The ledger {self.path} refused a step ({error}); run its verification.")
