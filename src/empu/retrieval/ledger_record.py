"""Records in the ledger which documents a collection holds: added, updated and removed ones, by hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from empu.ledger.ledger import Ledger
from empu.ledger.records import DocumentEvent
from empu.retrieval.collection import DocumentEntry


def record_documents(ledger: Ledger, collection: str, documents: Sequence[DocumentEntry]) -> int:
    """Bring the ledger up to date with a collection that now holds ``documents``; return the number of new events.

    Compares with what is recorded, so that nothing is missed after an interruption.
    """
    recorded: dict[str, DocumentEvent] = {}
    for event, _ in ledger.document_events(collection):
        if event.action == "removed":
            recorded.pop(event.address, None)
        else:
            recorded[event.address] = event
    events = []
    for entry in documents:
        known = recorded.pop(entry.address, None)
        if known is None or known.sha256 != entry.sha256:
            events.append(_event(collection, "added" if known is None else "updated", entry))
    events += [
        DocumentEvent(collection, "removed", gone.address, gone.sha256, gone.size, gone.licence, gone.added_by)
        for gone in recorded.values()
    ]
    with ledger.transaction():
        for event in events:
            ledger.add_document_event(event)
    return len(events)


def _event(collection: str, action: Literal["added", "updated"], entry: DocumentEntry) -> DocumentEvent:
    return DocumentEvent(collection, action, entry.address, entry.sha256, entry.size, entry.licence, entry.added_by)
