"""Schema of the ledger as numbered migrations. A released migration is never edited; each change adds a new one.

Rows have a small integer key beside their id, so that a member of a data set takes 20 bytes instead of 64.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE entry (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        body TEXT NOT NULL,      -- SHA-256 of the record's canonical JSON
        digest TEXT NOT NULL,    -- SHA-256 over the digest before it and this entry
        UNIQUE (kind, key)
    );
    CREATE TABLE source (
        key INTEGER PRIMARY KEY,
        path TEXT NOT NULL,      -- as given by the user
        sha256 TEXT NOT NULL,
        size INTEGER NOT NULL,
        licence TEXT NOT NULL,   -- or "unknown"
        UNIQUE (path, sha256, licence)
    );
    CREATE TABLE row (
        key INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE, -- SHA-256 of content
        content TEXT             -- canonical JSON
    );
    CREATE TABLE row_text (      -- index of rows by the hash of each of their texts
        sha256 BLOB NOT NULL,
        row INTEGER NOT NULL REFERENCES row (key),
        PRIMARY KEY (sha256, row)
    ) WITHOUT ROWID;
    CREATE TABLE dataset (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        settings TEXT NOT NULL   -- canonical JSON: how it was read, checked and split
    );
    CREATE TABLE member (
        dataset INTEGER NOT NULL REFERENCES dataset (key),
        position INTEGER NOT NULL,
        row INTEGER NOT NULL REFERENCES row (key),
        split TEXT NOT NULL,
        source INTEGER NOT NULL REFERENCES source (key),
        number INTEGER NOT NULL, -- the N of FILE:N
        PRIMARY KEY (dataset, position)
    ) WITHOUT ROWID;
    CREATE INDEX member_row ON member (row);
    CREATE INDEX member_place ON member (source, number);
    CREATE TABLE exclusion (
        dataset INTEGER NOT NULL REFERENCES dataset (key),
        position INTEGER NOT NULL,
        source INTEGER NOT NULL REFERENCES source (key),
        number INTEGER NOT NULL,
        row_id BLOB,             -- where the row could be read at all
        reason TEXT NOT NULL,
        PRIMARY KEY (dataset, position)
    ) WITHOUT ROWID;
    CREATE INDEX exclusion_place ON exclusion (source, number);
    CREATE TABLE run (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        recipe TEXT NOT NULL,
        seed INTEGER NOT NULL,
        code_version TEXT NOT NULL,
        base TEXT NOT NULL,      -- the base model's id
        dataset INTEGER REFERENCES dataset (key),
        row_order TEXT NOT NULL,
        machine TEXT NOT NULL,
        started_at TEXT NOT NULL
    );
    CREATE TABLE attempt (       -- first start and each resume
        run INTEGER NOT NULL REFERENCES run (key),
        number INTEGER NOT NULL,
        from_step INTEGER NOT NULL,
        machine TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID;
    CREATE TABLE step (
        run INTEGER NOT NULL REFERENCES run (key),
        attempt INTEGER NOT NULL,
        number INTEGER NOT NULL,
        loss REAL NOT NULL,
        facts TEXT NOT NULL,     -- canonical JSON: learning rate, tokens, seconds, development scores
        PRIMARY KEY (run, attempt, number)
    ) WITHOUT ROWID;
    CREATE TABLE run_end (
        run INTEGER PRIMARY KEY REFERENCES run (key),
        status TEXT NOT NULL,
        at TEXT NOT NULL,
        facts TEXT NOT NULL
    );
    CREATE TABLE model (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        files TEXT NOT NULL,     -- canonical JSON: name, size and SHA-256 of each
        parent TEXT,             -- id of the parent model
        run INTEGER REFERENCES run (key),
        licence TEXT NOT NULL,
        disclosed TEXT NOT NULL, -- canonical JSON: what is disclosed about the training data
        at TEXT NOT NULL,
        UNIQUE (id, name)
    );
    CREATE INDEX model_name ON model (name);
    CREATE INDEX model_run ON model (run);
    CREATE TABLE evaluation (
        key INTEGER PRIMARY KEY,
        model TEXT NOT NULL,     -- the id of the model, or the name of a baseline
        dataset INTEGER REFERENCES dataset (key),
        split TEXT NOT NULL,
        metrics TEXT NOT NULL,   -- canonical JSON: value, low, high, rows, unit of each
        settings TEXT NOT NULL,
        machine TEXT NOT NULL,
        at TEXT NOT NULL
    );
    CREATE INDEX evaluation_model ON evaluation (model);
    CREATE TABLE outcome (
        evaluation INTEGER NOT NULL REFERENCES evaluation (key),
        position INTEGER NOT NULL,
        row INTEGER NOT NULL REFERENCES row (key),
        answer TEXT NOT NULL,
        correct INTEGER,
        facts TEXT NOT NULL,
        PRIMARY KEY (evaluation, position)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE document (
        key INTEGER PRIMARY KEY,
        collection TEXT NOT NULL,
        action TEXT NOT NULL,    -- added, updated or removed
        address TEXT NOT NULL,   -- path or address of the document
        sha256 TEXT NOT NULL,
        size INTEGER NOT NULL,
        licence TEXT NOT NULL,
        added_by TEXT NOT NULL,
        at TEXT NOT NULL
    );
    CREATE INDEX document_collection ON document (collection, address);
    """,
)
"""Migration n, counted from 1, upgrades schema version n - 1 to n. The version is stored in ``user_version``."""


def statements(migration: str) -> list[str]:
    """Split a migration into statements, so that they run in one transaction (``executescript`` commits)."""
    lines = (line.split("--")[0].rstrip() for line in migration.splitlines())
    return [text.strip() for text in "\n".join(lines).split(";") if text.strip()]
