"""Small records for the tests of the ledger, and a writer process that gets killed."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from empu.ledger.hashing import FileId
from empu.ledger.ledger import Ledger
from empu.ledger.records import (
    DatasetRow,
    EvaluatedRow,
    Evaluation,
    Exclusion,
    Metric,
    RecordedModel,
    SourceFile,
    TrainingStep,
    TuningRun,
)
from empu.ledger.row_hash import row_id

HELP = SourceFile("data/help.csv", "a" * 64, 100, "CC0-1.0")
MORE = SourceFile("more.jsonl", "b" * 64, 50)
BASE = "0" * 64


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fields(number: int) -> dict[str, str]:
    return {"text": f"Where is parcel {number}?", "label": "parcel" if number % 2 else "refund"}


def dataset_rows(count: int, source: SourceFile = HELP, start: int = 0) -> Iterator[DatasetRow]:
    splits = ("train", "train", "dev", "test")
    for number in range(start, start + count):
        yield DatasetRow(fields(number), splits[number % 4], source, number + 2)


def exclusions(count: int) -> list[Exclusion]:
    return [Exclusion(HELP, 900 + number, "the text is empty") for number in range(count)]


def run(dataset: str | None, base: str = BASE, seed: int = 1) -> TuningRun:
    return TuningRun({"rank": 8, "epochs": 2}, seed, "0.1.0", base, dataset, "c" * 64, {"cores": 2})


def model(
    name: str, parent: str | None = None, run_id: str | None = None, licence: str = "Apache-2.0"
) -> RecordedModel:
    return RecordedModel(digest(name), name, (FileId("model.safetensors", 3, digest(name)),), parent, run_id, licence)


def evaluation(model_id: str, dataset: str) -> Evaluation:
    return Evaluation(model_id, dataset, "test", {"accuracy": Metric(0.9, 0.8, 0.95, 3)}, {"shots": 0}, {"cores": 2})


def evaluated_rows(count: int) -> list[EvaluatedRow]:
    return [EvaluatedRow(row_id(fields(number)), "parcel", number % 2 == 1) for number in range(3, count, 4)]


ROUND_ROWS, ROUND_EXCLUSIONS, ROUND_STEPS = 60, 5, 20


def write_round(ledger: Ledger, number: int) -> None:
    """Write to every table in one transaction. After a kill, all of it or nothing must be there."""
    with ledger.transaction():
        dataset = ledger.add_dataset(
            "text,label",
            dataset_rows(ROUND_ROWS, start=number * ROUND_ROWS),
            exclusions(ROUND_EXCLUSIONS),
            {"round": number},
        )
        run_id = ledger.start_run(run(dataset, seed=number))
        ledger.record_steps(run_id, [TrainingStep(step, 1 / step) for step in range(1, ROUND_STEPS + 1)])
        ledger.end_run(run_id, "finished")
        ledger.add_model(model(f"round-{number}", BASE, run_id))
        rows = [
            EvaluatedRow(row_id(fields(n)), "refund", n % 2 == 0)
            for n in range(number * ROUND_ROWS, (number + 1) * ROUND_ROWS)
        ]
        ledger.add_evaluation(evaluation(digest(f"round-{number}"), dataset), rows)


def write_rounds(path: Path, acknowledge: int, steps_to_live: int | None) -> None:
    """Write rounds, and one byte to ``acknowledge`` after each. Die after so many virtual machine steps of SQLite."""
    with Ledger.open(path) as ledger:
        if steps_to_live is not None:
            ledger._db._connection.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), steps_to_live)
        first = len({name for (name,) in ledger._db.iterate("SELECT name FROM model")})
        for number in range(first, first + 50):
            write_round(ledger, number)
            os.write(acknowledge, b".")


def kill_many(folder: Path, kills: int, seed: int) -> None:
    """Kill a writer ``kills`` times on one ledger, checking it each time; print the number of rounds at the end."""
    import random
    import select
    import time

    rng = random.Random(seed)
    path = folder / "ledger.db"
    acknowledged = 0
    for kill in range(kills):
        reader, writer = os.pipe()
        by_steps = kill % 2 == 0
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                write_rounds(path, writer, rng.randrange(100, 60_000) if by_steps else None)
            finally:
                os._exit(3)
        os.close(writer)
        if not by_steps:
            time.sleep(rng.uniform(0.0, 0.08))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"the writer was not killed but exited: {status}")
        while select.select([reader], [], [], 0)[0] and (data := os.read(reader, 4096)):
            acknowledged += len(data)
        os.close(reader)
        with Ledger.open(path) as ledger:
            check(ledger, acknowledged, full=kill % 25 == 24 or kill == kills - 1)
            acknowledged = len(list(ledger._db.iterate("SELECT key FROM model")))
    print(acknowledged)


def check(ledger: Ledger, acknowledged: int, full: bool) -> None:
    """Check that every acknowledged round is there and that every round is complete."""
    database = ledger._db
    count = {
        table: database.fetch_one(f"SELECT count(*) FROM {table}")[0]
        for table in (
            "model",
            "dataset",
            "run",
            "run_end",
            "evaluation",
            "attempt",
            "step",
            "member",
            "exclusion",
            "outcome",
            "row",
        )
    }
    rounds = count["model"]
    assert rounds >= acknowledged, f"{acknowledged} rounds were acknowledged, but the ledger has {rounds}"
    for table in ("dataset", "run", "run_end", "evaluation", "attempt"):
        assert count[table] == rounds, f"{table} holds {count[table]} of {rounds} rounds"
    expected = {
        "step": ROUND_STEPS,
        "member": ROUND_ROWS,
        "exclusion": ROUND_EXCLUSIONS,
        "outcome": ROUND_ROWS,
        "row": ROUND_ROWS,
    }
    for table, per_round in expected.items():
        assert count[table] == per_round * rounds, f"{table} holds {count[table]}, expected {per_round} x {rounds}"
    assert database.fetch_one("PRAGMA integrity_check")[0] == "ok"
    if full:
        assert ledger.verify() == []


if __name__ == "__main__":
    kill_many(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
