"""A small world of models for the tests of the ledger, and the program that is killed while it writes one."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from empu.ledger.hashing import FileId
from empu.ledger.ledger import Ledger
from empu.ledger.records import Evaluation, Exclusion, Member, Metric, Model, Outcome, Run, Source, Step
from empu.ledger.row_hash import row_id

HELP = Source("data/help.csv", "a" * 64, 100, "CC0-1.0")
MORE = Source("more.jsonl", "b" * 64, 50)
BASE = "0" * 64


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fields(number: int) -> dict[str, str]:
    return {"text": f"Where is parcel {number}?", "label": "parcel" if number % 2 else "refund"}


def members(count: int, source: Source = HELP, start: int = 0) -> Iterator[Member]:
    parts = ("train", "train", "dev", "test")
    for number in range(start, start + count):
        yield Member(fields(number), parts[number % 4], source, number + 2)


def exclusions(count: int) -> list[Exclusion]:
    return [Exclusion(HELP, 900 + number, "the text is empty") for number in range(count)]


def run(dataset: str | None, base: str = BASE, seed: int = 1) -> Run:
    return Run({"rank": 8, "epochs": 2}, seed, "0.1.0", base, dataset, "c" * 64, {"cores": 2})


def model(name: str, parent: str | None = None, made_by: str | None = None, licence: str = "Apache-2.0") -> Model:
    return Model(digest(name), name, (FileId("model.safetensors", 3, digest(name)),), parent, made_by, licence)


def evaluation(of: str, dataset: str) -> Evaluation:
    return Evaluation(of, dataset, "test", {"accuracy": Metric(0.9, 0.8, 0.95, 3)}, {"shots": 0}, {"cores": 2})


def outcomes(count: int) -> list[Outcome]:
    return [Outcome(row_id(fields(number)), "parcel", number % 2 == 1) for number in range(3, count, 4)]


ROUND_ROWS, ROUND_EXCLUSIONS, ROUND_STEPS = 60, 5, 20


def one_round(ledger: Ledger, number: int) -> None:
    """One transaction over every table: all of it, or none of it, must be there after a kill."""
    with ledger.transaction():
        dataset = ledger.add_dataset(
            "text,label",
            members(ROUND_ROWS, start=number * ROUND_ROWS),
            exclusions(ROUND_EXCLUSIONS),
            {"round": number},
        )
        begun = ledger.start_run(run(dataset, seed=number))
        ledger.record_steps(begun, [Step(step, 1 / step) for step in range(1, ROUND_STEPS + 1)])
        ledger.end_run(begun, "finished")
        ledger.add_model(model(f"round-{number}", BASE, begun))
        answered = [
            Outcome(row_id(fields(n)), "refund", n % 2 == 0)
            for n in range(number * ROUND_ROWS, (number + 1) * ROUND_ROWS)
        ]
        ledger.add_evaluation(evaluation(digest(f"round-{number}"), dataset), answered)


def write_rounds(path: Path, acknowledge: int, steps_to_live: int | None) -> None:
    """Write rounds, a byte for each that is done. With ``steps_to_live``, die after so many of SQLite's own steps."""
    with Ledger.open(path) as ledger:
        if steps_to_live is not None:
            ledger._db._connection.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), steps_to_live)
        first = len({name for (name,) in ledger._db.each("SELECT name FROM model")})
        for number in range(first, first + 50):
            one_round(ledger, number)
            os.write(acknowledge, b".")


def kill_many(folder: Path, kills: int, seed: int) -> None:
    """Start a writer and kill it, ``kills`` times over the same ledger; print what was acknowledged after each."""
    import random
    import select
    import time

    chance = random.Random(seed)
    path = folder / "ledger.db"
    acknowledged = 0
    for kill in range(kills):
        reader, writer = os.pipe()
        by_steps = kill % 2 == 0
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                write_rounds(path, writer, chance.randrange(100, 60_000) if by_steps else None)
            finally:
                os._exit(3)
        os.close(writer)
        if not by_steps:
            time.sleep(chance.uniform(0.0, 0.08))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"the writer ended by itself: {status}")
        while select.select([reader], [], [], 0)[0] and (got := os.read(reader, 4096)):
            acknowledged += len(got)
        os.close(reader)
        with Ledger.open(path) as ledger:
            check(ledger, acknowledged, full=kill % 25 == 24 or kill == kills - 1)
            acknowledged = len(list(ledger._db.each("SELECT key FROM model")))
    print(acknowledged)


def check(ledger: Ledger, acknowledged: int, full: bool) -> None:
    """Every acknowledged round is there, and each round that is there is whole."""
    database = ledger._db
    count = {
        table: database.one(f"SELECT count(*) FROM {table}")[0]
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
    assert rounds >= acknowledged, f"{acknowledged} rounds were acknowledged and {rounds} are there"
    for table in ("dataset", "run", "run_end", "evaluation", "attempt"):
        assert count[table] == rounds, f"{table} holds {count[table]} of {rounds} rounds"
    expected = {
        "step": ROUND_STEPS,
        "member": ROUND_ROWS,
        "exclusion": ROUND_EXCLUSIONS,
        "outcome": ROUND_ROWS,
        "row": ROUND_ROWS,
    }
    for table, each in expected.items():
        assert count[table] == each * rounds, f"{table} holds {count[table]}, expected {each} x {rounds}"
    assert database.one("PRAGMA integrity_check")[0] == "ok"
    if full:
        assert ledger.verify() == []


if __name__ == "__main__":
    kill_many(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
