"""A collection of documents on disk: texts, passages, a full-text index and vectors in one SQLite file.

A collection has a file of its own, so that a key that may not see it never reads from it, and so that removing it is
removing a file. Removal is physical: freed pages are overwritten (``secure_delete``), the full-text index is rebuilt,
and the file is vacuumed.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.errors import StoreError, UsageError
from empu.retrieval.extract.document import ExtractedDocument
from empu.retrieval.split import Passage

Vectors = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_QUERY_TERMS = 48
_WORD = re.compile(r"\w+")

_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL UNIQUE,
    title TEXT,
    format TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER,
    pages INTEGER,
    licence TEXT NOT NULL,
    added_by TEXT NOT NULL,
    added_at TEXT NOT NULL,
    warnings TEXT NOT NULL,
    text BLOB NOT NULL
);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents (id),
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    page INTEGER,
    headings TEXT NOT NULL,
    context TEXT NOT NULL,
    searched TEXT NOT NULL,
    vector BLOB,
    scale REAL
);
CREATE INDEX passages_of_document ON passages (document);
CREATE VIRTUAL TABLE passage_words USING fts5 (
    searched, content='passages', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE passage_terms USING fts5vocab (passage_words, 'row');
"""


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """What is recorded of a document, without its text."""

    id: int
    address: str
    """Path or address that it came from."""
    title: str | None
    format: str
    sha256: str
    size: int
    """Bytes of the file."""
    modified_ns: int | None
    pages: int | None
    licence: str
    added_by: str
    added_at: str
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Title, or the last part of the address."""
        return self.title or self.address.rstrip("/").rsplit("/", 1)[-1]


_ENTRY_COLUMNS = "id, address, title, format, sha256, size, modified_ns, pages, licence, added_by, added_at, warnings"


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage with its text and its document."""

    id: int
    document: DocumentEntry
    start: int
    end: int
    """Byte range in the UTF-8 text of the document."""
    page: int | None
    headings: tuple[str, ...]
    context: str
    text: str


class Collection:
    """One open collection. May be used from several threads."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the file at ``path``. Raises :class:`~empu.errors.StoreError` if it cannot be opened."""
        self.path = path
        self.name = path.stem
        self._lock = threading.RLock()
        self._matrix: tuple[npt.NDArray[np.int64], Vectors] | None = None
        self._version = -1
        if not create and not path.is_file():
            raise StoreError(
                f"There is no collection {self.name!r}; create it with: empu docs add PATH --to {self.name}"
            )
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if not path.exists():
                    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.execute("PRAGMA synchronous=EXTRA")
            self._db.execute("PRAGMA secure_delete=ON")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
            elif version > SCHEMA_VERSION:
                raise StoreError(f"{path} was written by a newer version of Empu; update Empu to open it.")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"The collection {path} cannot be opened ({error}).") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Settings

    def setting(self, name: str) -> str | None:
        """A value that was stored with the collection, such as the id of its encoder."""
        row = self._query_one("SELECT value FROM settings WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def set_setting(self, name: str, value: str) -> None:
        """Store a value."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    # Documents

    def documents(self) -> list[DocumentEntry]:
        """All documents, by address."""
        return [_entry(row) for row in self._query(f"SELECT {_ENTRY_COLUMNS} FROM documents ORDER BY address")]

    def document(self, address: str) -> DocumentEntry | None:
        """The document that came from ``address``."""
        row = self._query_one(f"SELECT {_ENTRY_COLUMNS} FROM documents WHERE address = ?", (address,))
        return None if row is None else _entry(row)

    def document_by_id(self, document_id: int) -> DocumentEntry | None:
        """The document with this id."""
        row = self._query_one(f"SELECT {_ENTRY_COLUMNS} FROM documents WHERE id = ?", (document_id,))
        return None if row is None else _entry(row)

    def text(self, document_id: int) -> bytes:
        """The extracted text of a document, in UTF-8."""
        row = self._query_one("SELECT text FROM documents WHERE id = ?", (document_id,))
        if row is None:
            raise StoreError(f"The collection {self.name!r} has no document {document_id} any more.")
        return bytes(row[0])

    def counts(self) -> tuple[int, int, int]:
        """Numbers of documents, passages, and bytes of text."""
        row = self._query_one("SELECT count(*), coalesce(sum(length(text)), 0) FROM documents", ())
        passages = self._query_one("SELECT count(*) FROM passages", ())
        assert row is not None
        assert passages is not None
        return row[0], passages[0], row[1]

    def add(
        self,
        entry: DocumentEntry,
        extracted: ExtractedDocument,
        passages: Sequence[Passage],
        vectors: Vectors | None,
    ) -> int:
        """Add a document, or replace the one with the same address. All or nothing; return its id.

        ``vectors`` has the shape (passages, width), rows of length one; ``None`` without an encoder.
        """
        with self._transaction():
            previous = self.document(entry.address)
            if previous is not None:
                self._delete(previous.id)
            cursor = self._db.execute(
                "INSERT INTO documents (address, title, format, sha256, size, modified_ns, pages, licence, added_by,"
                " added_at, warnings, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.address,
                    entry.title,
                    entry.format,
                    entry.sha256,
                    entry.size,
                    entry.modified_ns,
                    entry.pages,
                    entry.licence,
                    entry.added_by,
                    entry.added_at,
                    json.dumps(list(entry.warnings)),
                    extracted.text,
                ),
            )
            document = cursor.lastrowid
            assert document is not None
            for number, passage in enumerate(passages):
                searched = searched_text(extracted, passage)
                vector, scale = _quantised(vectors[number]) if vectors is not None else (None, None)
                row = self._db.execute(
                    "INSERT INTO passages (document, start, end, page, headings, context, searched, vector,"
                    " scale) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        document,
                        passage.start,
                        passage.end,
                        passage.page,
                        json.dumps(list(passage.headings), ensure_ascii=False),
                        passage.context,
                        searched,
                        vector,
                        scale,
                    ),
                ).lastrowid
                self._db.execute("INSERT INTO passage_words (rowid, searched) VALUES (?, ?)", (row, searched))
            self._bump()
        return document

    def touch(self, document_id: int, modified_ns: int | None) -> None:
        """Note that a file was looked at and has not changed."""
        with self._transaction():
            self._db.execute("UPDATE documents SET modified_ns = ? WHERE id = ?", (modified_ns, document_id))

    def remove(self, document_ids: Iterable[int]) -> None:
        """Remove documents so that no byte of them is left in the file."""
        with self._transaction():
            for document_id in document_ids:
                self._delete(document_id)
            self._bump()
        self.purge()

    def purge(self) -> None:
        """Rewrite the full-text index and the file, so that deleted text is gone from disk."""
        with self._lock:
            try:
                self._db.execute("INSERT INTO passage_words (passage_words) VALUES ('rebuild')")
                self._db.execute("INSERT INTO passage_words (passage_words) VALUES ('optimize')")
                self._db.execute("VACUUM")
            except sqlite3.Error as error:
                raise StoreError(f"The collection {self.path} cannot be rewritten ({error}); try again.") from error

    def _delete(self, document_id: int) -> None:
        rows = self._db.execute("SELECT id, searched FROM passages WHERE document = ?", (document_id,)).fetchall()
        for passage, searched in rows:
            self._db.execute(
                "INSERT INTO passage_words (passage_words, rowid, searched) VALUES ('delete', ?, ?)",
                (passage, searched),
            )
        self._db.execute("DELETE FROM passages WHERE document = ?", (document_id,))
        self._db.execute("DELETE FROM documents WHERE id = ?", (document_id,))

    # Search

    def passages(self, ids: Sequence[int]) -> list[StoredPassage]:
        """Passages by id, in the order of ``ids``; ids that are gone are skipped."""
        by_id: dict[int, StoredPassage] = {}
        documents: dict[int, DocumentEntry] = {}
        for passage_id in ids:
            row = self._query_one(
                "SELECT p.id, p.document, p.start, p.end, p.page, p.headings, p.context,"
                " substr(d.text, p.start + 1, p.end - p.start)"
                " FROM passages p JOIN documents d ON d.id = p.document WHERE p.id = ?",
                (passage_id,),
            )
            if row is None:
                continue
            if row[1] not in documents:
                document = self.document_by_id(row[1])
                assert document is not None
                documents[row[1]] = document
            text = bytes(row[7]).decode("utf-8", "replace")
            headings = tuple(json.loads(row[5]))
            by_id[row[0]] = StoredPassage(row[0], documents[row[1]], row[2], row[3], row[4], headings, row[6], text)
        return [by_id[passage_id] for passage_id in ids if passage_id in by_id]

    def lexical(self, query: str, count: int) -> list[tuple[int, float]]:
        """(passage id, BM25 score) of the best matches, best first. Higher scores are better."""
        terms = self._rarest_terms(query)
        if not terms:
            return []
        match = " OR ".join(f'"{term}"' for term in terms)
        rows = self._query(
            "SELECT rowid, -bm25(passage_words) AS score FROM passage_words WHERE passage_words MATCH ?"
            " ORDER BY score DESC, rowid LIMIT ?",
            (match, count),
        )
        return [(int(row[0]), float(row[1])) for row in rows]

    def _rarest_terms(self, query: str) -> list[str]:
        """Words of the query. In large collections very frequent words are dropped, as they cost most and say least."""
        words = list(dict.fromkeys(_WORD.findall(query.lower())))[: 4 * MAX_QUERY_TERMS]
        (total,) = self._query_one("SELECT count(*) FROM passages", ())
        if total < 20_000 and len(words) <= MAX_QUERY_TERMS:
            return words
        frequency = {}
        for word in words:
            row = self._query_one("SELECT doc FROM passage_terms WHERE term = ?", (word,))
            frequency[word] = row[0] if row is not None else 0
        words.sort(key=lambda word: frequency[word])
        kept: list[str] = []
        postings = 0
        for word in words[:MAX_QUERY_TERMS]:
            if len(kept) >= 3 and postings + frequency[word] > max(20_000, total // 5):
                break
            kept.append(word)
            postings += frequency[word]
        return kept

    def matrix(self) -> tuple[npt.NDArray[np.int64], Vectors]:
        """Ids and unit vectors (passages, width) of all passages that have a vector. Cached until a change."""
        with self._lock:
            row = self._query_one("SELECT value FROM settings WHERE name = 'changes'", ())
            version = int(row[0]) if row is not None else 0
            if self._matrix is None or version != self._version:
                rows = self._query("SELECT id, vector, scale FROM passages WHERE vector IS NOT NULL ORDER BY id")
                ids = np.array([row[0] for row in rows], dtype=np.int64)
                if rows:
                    quantised = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.int8)
                    scales = np.array([row[2] for row in rows], dtype=np.float32)
                    vectors = quantised.reshape(len(rows), -1).astype(np.float32) * scales[:, None]
                else:
                    vectors = np.zeros((0, 1), dtype=np.float32)
                self._matrix, self._version = (ids, vectors), version
            return self._matrix

    # SQLite

    def _bump(self) -> None:
        self._db.execute(
            "INSERT INTO settings VALUES ('changes', '1')"
            " ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreError(f"The collection {self.path} cannot be written ({error}); try again.") from error

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"The collection {self.path} cannot be read ({error}).") from error

    def _query_one(self, sql: str, values: Sequence[Any]) -> Any:
        rows = self._query(sql, values)
        return rows[0] if rows else None


def _entry(row: Sequence[Any]) -> DocumentEntry:
    values: Any = dict(zip(_ENTRY_COLUMNS.split(", "), row, strict=True))
    return DocumentEntry(**values | {"warnings": tuple(json.loads(row[-1]))})


def searched_text(document: ExtractedDocument, passage: Passage) -> str:
    """The text that is indexed for a passage: title, headings and context before the text of its span."""
    lead = [document.title or "", *passage.headings, passage.context]
    lines = list(dict.fromkeys(line for line in lead if line))
    return "\n".join([*lines, document.slice(passage.start, passage.end)])


def _quantised(vector: npt.NDArray[np.float32]) -> tuple[bytes, float]:
    """A unit vector in int8 with one scale."""
    scale = float(np.abs(vector).max()) / 127 or 1.0
    return np.rint(vector / scale).astype(np.int8).tobytes(), scale


class Collections:
    """The collections of a store: one file each, ``<home>/collections/<name>.db``."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "collections"

    def names(self) -> list[str]:
        """Names of all collections."""
        return sorted(path.stem for path in self.folder.glob("*.db")) if self.folder.is_dir() else []

    def open(self, name: str, *, create: bool = False) -> Collection:
        """Open a collection. Raises :class:`UsageError` for a bad name, :class:`StoreError` if there is none."""
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a name for a collection; use lower-case letters, digits, '.', '_' and '-'."
            )
        return Collection(self.folder / f"{name}.db", create=create)

    def delete(self, name: str) -> None:
        """Remove a collection: its contents are overwritten first, then the file is deleted."""
        with self.open(name) as collection:
            collection.remove([document.id for document in collection.documents()])
        (self.folder / f"{name}.db").unlink()
