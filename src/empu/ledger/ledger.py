"""The ledger: an append-only record of data sets, tuning runs, models and evaluations.

``Ledger.open(path)`` opens or creates one. Each ``add_…`` call is one transaction that is on disk when it returns;
``with ledger.transaction():`` groups several.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from empu.errors import StoreError
from empu.ledger import hash_chain, verification
from empu.ledger.database import LOCK_TIMEOUT_S, Database
from empu.ledger.datasets import add_exclusions, add_rows, batches
from empu.ledger.hashing import canonical_json, content_id
from empu.ledger.queries import LedgerQueries
from empu.ledger.records import (
    DatasetRow,
    DocumentEvent,
    EvaluatedRow,
    Evaluation,
    Exclusion,
    RecordedModel,
    SourceFile,
    TrainingStep,
    TuningRun,
)


class Ledger(LedgerQueries):
    """The ledger of one store. Queries are inherited from :class:`~empu.ledger.queries.LedgerQueries`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._source_keys: dict[SourceFile, int] = {}

    @classmethod
    def open(cls, path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Self:
        """Open or create the ledger at ``path``. A writer waits at most ``timeout_s`` seconds for another process.

        Raises :class:`~empu.errors.StoreError` if it is damaged, written by a newer version, or not writable.
        """
        return cls(Database(path, timeout_s))

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Record everything inside the block, or nothing."""
        try:
            with self._db.transaction():
                yield
        except BaseException:
            self._source_keys.clear()  # keys of records that were rolled back
            raise

    # Writing

    def add_source(self, source: SourceFile) -> None:
        """Record a file that rows came from. The same path, content and licence are recorded once."""
        with self.transaction():
            self._source_key(source)

    def add_dataset(
        self,
        kind: str,
        rows: Iterable[DatasetRow],
        exclusions: Iterable[Exclusion] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> str:
        """Record a data set with its files and rows, in order, and return its id (hex).

        Both iterables are consumed in batches, so they may be larger than memory. A data set that is recorded already,
        with the same rows, positions and reasons, keeps its id and is not written again.
        """
        with self.transaction():
            self._db.execute("SAVEPOINT dataset")
            cursor = self._db.execute(
                "INSERT INTO dataset (id, kind, settings) VALUES ('', ?, ?)", (kind, _json(settings or {}))
            )
            key = _key(cursor.lastrowid)
            for start, batch in batches(rows):
                add_rows(self._db, self._source_key, key, start, batch)
            for start, excluded in batches(exclusions):
                add_exclusions(self._db, self._source_key, key, start, excluded)
            identity = content_id(hash_chain.read_dataset(self._db, str(key)))
            if self._db.fetch_first("SELECT key FROM dataset WHERE id = ?", (identity,)):
                self._db.execute("ROLLBACK TO dataset")
                self._source_keys.clear()
            else:
                self._db.execute("UPDATE dataset SET id = ? WHERE key = ?", (identity, key))
                hash_chain.append_entry(self._db, "data set", str(key))
            self._db.execute("RELEASE dataset")
        return identity

    def start_run(self, run: TuningRun) -> str:
        """Record the start of a run and return its id (hex)."""
        with self.transaction():
            started = hash_chain.timestamp()
            identity = content_id({**dataclasses.asdict(run), "started_at": started})
            cursor = self._db.execute(
                "INSERT INTO run (id, recipe, seed, code_version, base, dataset, row_order, machine, started_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    identity,
                    _json(run.recipe),
                    run.seed,
                    run.code_version,
                    run.base,
                    self._dataset_key(run.dataset),
                    run.row_order,
                    _json(run.machine),
                    started,
                ),
            )
            key = _key(cursor.lastrowid)
            hash_chain.append_entry(self._db, "run", str(key))
            self._add_attempt(key, 0, run.machine)
        return identity

    def resume_run(self, run: str, from_step: int, machine: Mapping[str, Any]) -> None:
        """Record that an interrupted run resumes after ``from_step``. Later steps of earlier attempts do not count."""
        with self.transaction():
            key = self._open_run(run)
            self._add_attempt(key, from_step, machine)

    def record_steps(self, run: str, steps: Iterable[TrainingStep]) -> None:
        """Append steps to the current attempt of a run, in ascending order."""
        batch = list(steps)
        if not batch:
            return
        with self.transaction():
            key = self._open_run(run)
            (attempt,) = self._db.fetch_one("SELECT max(number) FROM attempt WHERE run = ?", (key,))
            (last,) = self._db.fetch_one(
                "SELECT coalesce(max(s.number), a.from_step) FROM attempt a LEFT JOIN step s ON s.run = a.run "
                "AND s.attempt = a.number WHERE a.run = ? AND a.number = ?",
                (key, attempt),
            )
            for step in batch:
                if step.number <= _key(last):
                    raise StoreError(f"Step {step.number} of run {run[:12]} comes after step {last}; resume the run.")
                last = step.number
            self._db.execute_many(
                "INSERT INTO step (run, attempt, number, loss, facts) VALUES (?, ?, ?, ?, ?)",
                [(key, attempt, step.number, step.loss, _json(step.facts)) for step in batch],
            )
            hash_chain.append_entry(self._db, "steps", f"{key}/{attempt}/{batch[0].number}/{last}")

    def end_run(self, run: str, status: str, facts: Mapping[str, Any] | None = None) -> None:
        """Record how a run ended, for example ``"finished"``. A run ends once."""
        with self.transaction():
            key = self._open_run(run)
            self._db.execute(
                "INSERT INTO run_end (run, status, at, facts) VALUES (?, ?, ?, ?)",
                (key, status, hash_chain.timestamp(), _json(facts or {})),
            )
            hash_chain.append_entry(self._db, "end of run", str(key))

    def add_model(self, model: RecordedModel) -> None:
        """Record a model under a name. The same model under the same name is recorded once."""
        with self.transaction():
            if self._db.fetch_first("SELECT key FROM model WHERE id = ? AND name = ?", (model.id, model.name)):
                return
            run = None if model.run is None else self._run_key(model.run)
            cursor = self._db.execute(
                "INSERT INTO model (id, name, files, parent, run, licence, disclosed, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    model.id,
                    model.name,
                    _json([dataclasses.asdict(file) for file in model.files]),
                    model.parent,
                    run,
                    model.licence,
                    _json(model.disclosed),
                    hash_chain.timestamp(),
                ),
            )
            hash_chain.append_entry(self._db, "model", str(cursor.lastrowid))

    def add_evaluation(self, evaluation: Evaluation, rows: Iterable[EvaluatedRow] = ()) -> None:
        """Record metrics and the answer to each row behind them. The rows must be recorded already."""
        with self.transaction():
            cursor = self._db.execute(
                "INSERT INTO evaluation (model, dataset, split, metrics, settings, machine, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    evaluation.model,
                    self._dataset_key(evaluation.dataset),
                    evaluation.split,
                    _json({name: dataclasses.asdict(metric) for name, metric in evaluation.metrics.items()}),
                    _json(evaluation.settings),
                    _json(evaluation.machine),
                    hash_chain.timestamp(),
                ),
            )
            key = _key(cursor.lastrowid)
            for start, batch in batches(rows):
                self._db.execute_many(
                    "INSERT INTO outcome (evaluation, position, row, answer, correct, facts) "
                    "VALUES (?, ?, (SELECT key FROM row WHERE id = ?), ?, ?, ?)",
                    [
                        (key, start + i, bytes.fromhex(row.row_id), row.answer, row.correct, _json(row.facts))
                        for i, row in enumerate(batch)
                    ],
                )
            hash_chain.append_entry(self._db, "evaluation", str(key))

    def add_document_event(self, event: DocumentEvent) -> None:
        """Record that a document was added to a collection, updated or removed."""
        with self.transaction():
            cursor = self._db.execute(
                "INSERT INTO document (collection, action, address, sha256, size, licence, added_by, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    event.collection,
                    event.action,
                    event.address,
                    event.sha256,
                    event.size,
                    event.licence,
                    event.added_by,
                    hash_chain.timestamp(),
                ),
            )
            hash_chain.append_entry(self._db, "document", str(_key(cursor.lastrowid)))

    def verify(self, head: str | None = None) -> list[str]:
        """Check all records against the hash chain. Return one sentence for each problem.

        ``head`` is an earlier result of :meth:`head` that was kept elsewhere; the chain must still contain it.
        """
        return verification.verify(self._db, head)

    def head(self) -> str:
        """Return the digest (hex) that covers everything recorded so far."""
        return hash_chain.head(self._db)

    # Helpers

    def _source_key(self, source: SourceFile) -> int:
        if source not in self._source_keys:
            values = (source.path, source.sha256, source.licence)
            known = self._db.fetch_first("SELECT key FROM source WHERE path = ? AND sha256 = ? AND licence = ?", values)
            if known is None:
                cursor = self._db.execute(
                    "INSERT INTO source (path, sha256, licence, size) VALUES (?, ?, ?, ?)", (*values, source.size)
                )
                known = (cursor.lastrowid,)
                hash_chain.append_entry(self._db, "source", str(cursor.lastrowid))
            self._source_keys[source] = _key(known[0])
        return self._source_keys[source]

    def _add_attempt(self, run: int, from_step: int, machine: Mapping[str, Any]) -> None:
        (number,) = self._db.fetch_one("SELECT coalesce(max(number), 0) + 1 FROM attempt WHERE run = ?", (run,))
        self._db.execute(
            "INSERT INTO attempt (run, number, from_step, machine, at) VALUES (?, ?, ?, ?, ?)",
            (run, number, from_step, _json(machine), hash_chain.timestamp()),
        )
        hash_chain.append_entry(self._db, "attempt", f"{run}/{number}")

    def _run_key(self, run: str) -> int:
        row = self._db.fetch_first("SELECT key FROM run WHERE id = ?", (run,))
        if row is None:
            raise StoreError(f"The ledger {self._db.path} has no run {run[:12]}; start the run first.")
        return _key(row[0])

    def _open_run(self, run: str) -> int:
        key = self._run_key(run)
        ended = self._db.fetch_first("SELECT status, at FROM run_end WHERE run = ?", (key,))
        if ended is not None:
            raise StoreError(
                f"Run {run[:12]} ended ({ended[0]}) at {ended[1]} and accepts no more records; start another."
            )
        return key

    def _dataset_key(self, dataset: str | None) -> int | None:
        if dataset is None:
            return None
        row = self._db.fetch_first("SELECT key FROM dataset WHERE id = ?", (dataset,))
        if row is None:
            raise StoreError(f"The ledger {self._db.path} has no data set {dataset[:12]}; record it first.")
        return _key(row[0])


def _json(value: object) -> str:
    return canonical_json(value).decode("utf-8")


def _key(value: object) -> int:
    assert isinstance(value, int)
    return value
