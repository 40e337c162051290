"""Every edit behind the ledger's back is noticed and named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from empu.ledger.ledger import Ledger
from empu.ledger.records import Step
from tests.ledger.writing import BASE, digest, evaluation, exclusions, members, model, outcomes, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        dataset = ledger.add_dataset("text,label", members(12), exclusions(2), {"seed": 1})
        begun = ledger.start_run(run(dataset))
        ledger.record_steps(begun, [Step(1, 2.0), Step(2, 1.0)])
        ledger.resume_run(begun, 2, {})
        ledger.record_steps(begun, [Step(3, 0.5)])
        ledger.end_run(begun, "finished")
        ledger.add_model(model("help", BASE, begun))
        ledger.add_evaluation(evaluation(digest("help"), dataset), outcomes(12))
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
    "UPDATE row SET content = replace(content, 'parcel 3', 'parcel 4') WHERE key = 4": "holds another text",
    "UPDATE row SET content = NULL WHERE key = 4": "has lost its text",
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
    "INSERT INTO step VALUES (1, 2, 4, 0.0, '{}')": "Step 4 of run 1, attempt 2, was put in",
    "UPDATE run_end SET status = 'failed'": "end of run 1 was changed",
    "DELETE FROM run_end": "end of run 1 is gone",
    "UPDATE model SET parent = NULL": "model 1 was changed",
    "DELETE FROM model": "model 1 is gone",
    "INSERT INTO model SELECT 2, id, 'x', files, parent, run, licence, disclosed, at FROM model": "model 2 was put in",
    "UPDATE evaluation SET metrics = replace(metrics, '0.9', '0.99')": "evaluation 1 was changed",
    "UPDATE outcome SET correct = 1 - correct WHERE position = 1": "evaluation 1 was changed",
    "DELETE FROM outcome WHERE position = 1": "evaluation 1 was changed",
    "DELETE FROM entry WHERE seq = 4": "Entries 4 to 4 are missing",
    "UPDATE entry SET at = '2000-01-01' WHERE seq = 4": "Entry 4 of 2000-01-01",
    "DELETE FROM row_text WHERE row = 4": "is not found by its texts",
    "INSERT INTO row_text VALUES (x'00', 4)": "1 texts point to rows that do not hold them",
    "DELETE FROM row WHERE key = 4": "points to one of table row that is gone",
}


@pytest.mark.parametrize(("sql", "said"), EDITS.items())
def test_an_edit_is_noticed_and_named(path: Path, sql: str, said: str) -> None:
    found = tamper(path, sql)
    assert any(said in sentence for sentence in found), found
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in found)


def test_an_entry_that_was_made_to_fit_breaks_the_chain_behind_it(path: Path) -> None:
    """Whoever changes a record and its entry must change all entries after it; the head, kept elsewhere, tells."""
    from empu.ledger import hash_chain
    from empu.ledger.hashing import content_id

    with Ledger.open(path) as ledger:
        head = ledger.head()
        database = ledger._db
        database.execute("UPDATE run SET seed = 7")
        entries = list(database.each("SELECT seq, at, kind, key, body FROM entry ORDER BY seq"))
        previous = hash_chain.GENESIS
        for seq, at, kind, key, body in entries:
            body = content_id(hash_chain.BODIES[kind](database, key)) if kind == "run" else body
            previous = hash_chain.link(previous, seq, at, kind, key, body)
            database.execute("UPDATE entry SET body = ?, digest = ? WHERE seq = ?", (body, previous, seq))
        assert ledger.verify() == []
        (sentence,) = ledger.verify(head)
        assert head in sentence


def test_entries_cut_off_at_the_end_are_noticed_with_the_head(path: Path) -> None:
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


def test_a_flipped_byte_anywhere_in_the_texts_is_noticed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b"Where is parcel 7?")
    data[at] ^= 1
    path.write_bytes(data)
    with Ledger.open(path) as ledger:
        assert any("holds another text" in sentence for sentence in ledger.verify())
