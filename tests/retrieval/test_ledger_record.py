"""The ledger knows which documents a collection held, by hash, and the chain covers it."""

from __future__ import annotations

from pathlib import Path

from empu.ledger.ledger import Ledger
from empu.retrieval.collection import Collections
from empu.retrieval.ledger_record import record_documents
from tests.retrieval.test_collection import add as add_documents


def test_additions_updates_and_removals_are_recorded_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    with Ledger.open(tmp_path / "ledger.db") as ledger, Collections(tmp_path).open("c", create=True) as collection:
        add_documents(collection, tmp_path / "a.txt", tmp_path / "b.txt", encode=False)
        assert record_documents(ledger, "c", collection.documents()) == 2
        assert record_documents(ledger, "c", collection.documents()) == 0
        (tmp_path / "a.txt").write_text("one and more")
        add_documents(collection, tmp_path / "a.txt", encode=False)
        collection.remove([entry.id for entry in collection.documents() if entry.name == "b.txt"])
        assert record_documents(ledger, "c", collection.documents()) == 2
        events = [(event.action, Path(event.address).name) for event, _ in ledger.document_events("c")]
        assert events == [("added", "a.txt"), ("added", "b.txt"), ("updated", "a.txt"), ("removed", "b.txt")]
        assert ledger.document_events("other") == []
        assert ledger.verify() == []


def test_a_changed_document_record_is_found(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "a.txt").write_text("one")
    with Ledger.open(tmp_path / "ledger.db") as ledger, Collections(tmp_path).open("c", create=True) as collection:
        add_documents(collection, tmp_path / "a.txt", encode=False)
        record_documents(ledger, "c", collection.documents())
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE document SET licence = 'MIT'")
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        assert any("document" in problem for problem in ledger.verify())
