"""Verification finds and names every change that was not made through the ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from empu.ledger.ledger import Ledger
from empu.ledger.records import TrainingStep
from tests.ledger.writer import BASE, dataset_rows, digest, evaluated_rows, evaluation, exclusions, model, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        dataset = ledger.add_dataset("text,label", dataset_rows(12), exclusions(2), {"seed": 1})
        run_id = ledger.start_run(run(dataset))
        ledger.record_steps(run_id, [TrainingStep(1, 2.0), TrainingStep(2, 1.0)])
        ledger.resume_run(run_id, 2, {})
        ledger.record_steps(run_id, [TrainingStep(3, 0.5)])
        ledger.end_run(run_id, "finished")
        ledger.add_model(model("help", BASE, run_id))
        ledger.add_evaluation(evaluation(digest("help"), dataset), evaluated_rows(12))
        assert ledger.verify() == []
    return path


def tamper(path: Path, sql: str) -> list[str]:
    connection = sqlite3.connect(path)
    changed = connection.execute(sql).rowcount
    connection.commit()
    connection.close()
    assert changed > 0
    with Ledger.open(path) as ledger:
        return ledger.verify()


EDITS = {
    "UPDATE source SET licence = 'MIT'": "source 1 was changed",
    "UPDATE source SET size = size + 1": "source 1 was changed",
    "UPDATE row SET content = replace(content, 'parcel 3', 'parcel 4') WHERE key = 4": "has different content",
    "UPDATE row SET content = NULL WHERE key = 4": "has lost its content",
    "UPDATE member SET split = 'train' WHERE split = 'test'": "data set 1 was changed",
    "UPDATE member SET number = 7 WHERE position = 0": "data set 1 was changed",
    "DELETE FROM member WHERE position = 11": "data set 1 was changed",
    "INSERT INTO member VALUES (1, 12, 1, 'train', 1, 99)": "data set 1 was changed",
    "UPDATE exclusion SET reason = 'none' WHERE position = 0": "data set 1 was changed",
    "UPDATE dataset SET settings = '{}'": "data set 1 was changed",
    "UPDATE run SET seed = 2": "run 1 was changed",
    "UPDATE run SET recipe = '{}'": "run 1 was changed",
    "UPDATE attempt SET machine = '{\"cores\":64}' WHERE number = 2": "attempt 1/2 was changed",
    "UPDATE step SET loss = 0.1 WHERE number = 2": "steps 1/1/1/2 was changed",
    "DELETE FROM step WHERE number = 1": "steps 1/1/1/2 was changed",
    "INSERT INTO step VALUES (1, 2, 4, 0.0, '{}')": "Step 4 of run 1, attempt 2, was added",
    "UPDATE run_end SET status = 'failed'": "end of run 1 was changed",
    "DELETE FROM run_end": "end of run 1 is missing",
    "UPDATE model SET parent = NULL": "model 1 was changed",
    "DELETE FROM model": "model 1 is missing",
    "INSERT INTO model SELECT 2, id, 'x', files, parent, run, licence, disclosed, at FROM model": "model 2 was added",
    "UPDATE evaluation SET metrics = replace(metrics, '0.9', '0.99')": "evaluation 1 was changed",
    "UPDATE outcome SET correct = 1 - correct WHERE position = 1": "evaluation 1 was changed",
    "DELETE FROM outcome WHERE position = 1": "evaluation 1 was changed",
    "DELETE FROM entry WHERE seq = 4": "Entries 4 to 4 are missing",
    "UPDATE entry SET at = '2000-01-01' WHERE seq = 4": "Entry 4 of 2000-01-01",
    "DELETE FROM row_text WHERE row = 4": "is missing from the index of texts",
    "INSERT INTO row_text VALUES (x'00', 4)": "1 entries of the index of texts point to rows without that text",
    "DELETE FROM row WHERE key = 4": "refers to a missing record of table row",
}


@pytest.mark.parametrize(("sql", "message"), EDITS.items())
def test_verify_names_changed_record(path: Path, sql: str, message: str) -> None:
    problems = tamper(path, sql)
    assert any(message in problem for problem in problems), problems
    assert all(problem.endswith(".") and "\n" not in problem for problem in problems)


def test_rewritten_chain_is_found_by_an_earlier_head(path: Path) -> None:
    """A forger must rewrite all entries after the changed one. A head that was kept elsewhere reveals that."""
    from empu.ledger import hash_chain
    from empu.ledger.hashing import content_id

    with Ledger.open(path) as ledger:
        head = ledger.head()
        database = ledger._db
        database.execute("UPDATE run SET seed = 7")
        entries = list(database.iterate("SELECT seq, at, kind, key, body FROM entry ORDER BY seq"))
        previous = hash_chain.GENESIS
        for seq, at, kind, key, body in entries:
            body = content_id(hash_chain.RECORD_READERS[kind](database, key)) if kind == "run" else body
            previous = hash_chain.entry_digest(previous, seq, at, kind, key, body)
            database.execute("UPDATE entry SET body = ?, digest = ? WHERE seq = ?", (body, previous, seq))
        assert ledger.verify() == []
        (problem,) = ledger.verify(head)
        assert head in problem


def test_removed_newest_entries_are_found_by_the_head(path: Path) -> None:
    with Ledger.open(path) as ledger:
        head = ledger.head()
        ledger.add_model(model("later"))
        assert ledger.verify(head) == []
        later = ledger.head()
        ledger._db.execute("DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)")
        ledger._db.execute("DELETE FROM model WHERE name = 'later'")
        assert ledger.verify() == []
        assert ledger.verify(head) == []
        assert len(ledger.verify(later)) == 1


def test_flipped_byte_in_a_row_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"Where is parcel 7?")] ^= 1
    path.write_bytes(data)
    with Ledger.open(path) as ledger:
        assert any("has different content" in problem for problem in ledger.verify())
