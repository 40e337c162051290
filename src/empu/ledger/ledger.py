"""The ledger: what a model was made of, written down once and asked from both ends.

``Ledger.open(path)`` opens or creates it. Each ``add_…`` is one transaction that is on the disk when the call returns;
``with ledger.transaction():`` makes several of them one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from empu.errors import StoreError
from empu.ledger import hash_chain, queries, verification
from empu.ledger.database import WAIT_S, Database
from empu.ledger.datasets import add_exclusions, add_members, batches
from empu.ledger.hashing import canonical_json, content_id
from empu.ledger.records import Evaluation, Exclusion, Member, Model, Outcome, Run, Source, Step


class Ledger(queries.Questions):
    """The book of one store. The questions that it answers stand in :class:`~empu.ledger.queries.Questions`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._sources: dict[Source, int] = {}

    @classmethod
    def open(cls, path: Path, wait_s: float = WAIT_S) -> Self:
        """Open or create the ledger at ``path``; a writer waits at most ``wait_s`` seconds for another process.

        Raises :class:`~empu.errors.StoreError` when it is damaged, newer than this program, or not writable.
        """
        return cls(Database(path, wait_s))

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything recorded inside is recorded together, or not at all."""
        try:
            with self._db.transaction():
                yield
        except BaseException:
            self._sources.clear()  # what was written and undone must not be believed
            raise

    # Writing

    def add_source(self, source: Source) -> None:
        """Record a file that rows came from. The same file, path and licence are recorded once."""
        with self.transaction():
            self._source(source)

    def add_dataset(
        self,
        kind: str,
        members: Iterable[Member],
        exclusions: Iterable[Exclusion] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> str:
        """Record a data set with its sources and rows, in order, and give its id (hex).

        Both iterables are consumed as they come, so they may be longer than memory. A data set that is known already,
        to the last row, place and reason, keeps its id and is not written twice.
        """
        with self.transaction():
            self._db.execute("SAVEPOINT dataset")
            cursor = self._db.execute(
                "INSERT INTO dataset (id, kind, settings) VALUES ('', ?, ?)", (kind, _json(settings or {}))
            )
            key = _key(cursor.lastrowid)
            for start, batch in batches(members):
                add_members(self._db, self._source, key, start, batch)
            for start, left_out in batches(exclusions):
                add_exclusions(self._db, self._source, key, start, left_out)
            identity = content_id(hash_chain.dataset_body(self._db, str(key)))
            if self._db.first("SELECT key FROM dataset WHERE id = ?", (identity,)):
                self._db.execute("ROLLBACK TO dataset")
                self._sources.clear()
            else:
                self._db.execute("UPDATE dataset SET id = ? WHERE key = ?", (identity, key))
                hash_chain.append(self._db, "data set", str(key))
            self._db.execute("RELEASE dataset")
        return identity

    def start_run(self, run: Run) -> str:
        """Record that a run begins, and give its id (hex)."""
        with self.transaction():
            started = hash_chain.now()
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
            hash_chain.append(self._db, "run", str(key))
            self._add_attempt(key, 0, run.machine)
        return identity

    def resume_run(self, run: str, from_step: int, machine: Mapping[str, Any]) -> None:
        """Record that a broken run goes on after ``from_step``. Later steps of earlier attempts no longer count."""
        with self.transaction():
            key = self._open_run(run)
            self._add_attempt(key, from_step, machine)

    def record_steps(self, run: str, steps: Iterable[Step]) -> None:
        """Append steps to the current attempt of a run, in ascending order."""
        batch = list(steps)
        if not batch:
            return
        with self.transaction():
            key = self._open_run(run)
            (attempt,) = self._db.one("SELECT max(number) FROM attempt WHERE run = ?", (key,))
            (last,) = self._db.one(
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
            hash_chain.append(self._db, "steps", f"{key}/{attempt}/{batch[0].number}/{last}")

    def end_run(self, run: str, status: str, facts: Mapping[str, Any] | None = None) -> None:
        """Record how a run ended: ``"finished"``, or what else happened. A run ends once."""
        with self.transaction():
            key = self._open_run(run)
            self._db.execute(
                "INSERT INTO run_end (run, status, at, facts) VALUES (?, ?, ?, ?)",
                (key, status, hash_chain.now(), _json(facts or {})),
            )
            hash_chain.append(self._db, "end of run", str(key))

    def add_model(self, model: Model) -> None:
        """Record a model under a name. The same model under the same name is recorded once."""
        with self.transaction():
            if self._db.first("SELECT key FROM model WHERE id = ? AND name = ?", (model.id, model.name)):
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
                    hash_chain.now(),
                ),
            )
            hash_chain.append(self._db, "model", str(cursor.lastrowid))

    def add_evaluation(self, evaluation: Evaluation, outcomes: Iterable[Outcome] = ()) -> None:
        """Record scores and, row for row, the answers behind them. The rows must stand in the ledger."""
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
                    hash_chain.now(),
                ),
            )
            key = _key(cursor.lastrowid)
            for start, batch in batches(outcomes):
                self._db.execute_many(
                    "INSERT INTO outcome (evaluation, position, row, answer, correct, facts) "
                    "VALUES (?, ?, (SELECT key FROM row WHERE id = ?), ?, ?, ?)",
                    [
                        (key, start + i, bytes.fromhex(one.row_id), one.answer, one.correct, _json(one.facts))
                        for i, one in enumerate(batch)
                    ],
                )
            hash_chain.append(self._db, "evaluation", str(key))

    def verify(self, head: str | None = None) -> list[str]:
        """Read everything again; one sentence for each thing that is not as it was recorded, none if all is well.

        ``head`` is a digest that :meth:`head` gave earlier and that was kept elsewhere: it must still be in the chain.
        """
        return verification.verify(self._db, head)

    def head(self) -> str:
        """The digest (hex) that stands for everything recorded so far."""
        return hash_chain.head(self._db)

    # Below the surface

    def _source(self, source: Source) -> int:
        if source not in self._sources:
            values = (source.path, source.sha256, source.licence)
            known = self._db.first("SELECT key FROM source WHERE path = ? AND sha256 = ? AND licence = ?", values)
            if known is None:
                cursor = self._db.execute(
                    "INSERT INTO source (path, sha256, licence, size) VALUES (?, ?, ?, ?)", (*values, source.size)
                )
                known = (cursor.lastrowid,)
                hash_chain.append(self._db, "source", str(cursor.lastrowid))
            self._sources[source] = _key(known[0])
        return self._sources[source]

    def _add_attempt(self, run: int, from_step: int, machine: Mapping[str, Any]) -> None:
        (number,) = self._db.one("SELECT coalesce(max(number), 0) + 1 FROM attempt WHERE run = ?", (run,))
        self._db.execute(
            "INSERT INTO attempt (run, number, from_step, machine, at) VALUES (?, ?, ?, ?, ?)",
            (run, number, from_step, _json(machine), hash_chain.now()),
        )
        hash_chain.append(self._db, "attempt", f"{run}/{number}")

    def _run_key(self, run: str) -> int:
        row = self._db.first("SELECT key FROM run WHERE id = ?", (run,))
        if row is None:
            raise StoreError(f"The ledger {self._db.path} has no run {run[:12]}; start it before recording more of it.")
        return _key(row[0])

    def _open_run(self, run: str) -> int:
        key = self._run_key(run)
        ended = self._db.first("SELECT status, at FROM run_end WHERE run = ?", (key,))
        if ended is not None:
            raise StoreError(
                f"Run {run[:12]} ended ({ended[0]}) at {ended[1]} and takes no more records; start another."
            )
        return key

    def _dataset_key(self, dataset: str | None) -> int | None:
        if dataset is None:
            return None
        row = self._db.first("SELECT key FROM dataset WHERE id = ?", (dataset,))
        if row is None:
            raise StoreError(f"The ledger {self._db.path} has no data set {dataset[:12]}; record it first.")
        return _key(row[0])


def _json(value: object) -> str:
    return canonical_json(value).decode("utf-8")


def _key(value: object) -> int:
    assert isinstance(value, int)
    return value
