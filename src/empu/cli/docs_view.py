"""Output of ``empu docs``: progress, reports and hits, as text and as JSON; and the encoder of a collection."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empu.cli import output
from empu.cli.loading import cancel_on_ctrl_c
from empu.errors import StoreError
from empu.retrieval.answer import QuotedAnswer
from empu.retrieval.collection import Collection, DocumentEntry, StoredPassage
from empu.retrieval.ingest import IngestReport
from empu.retrieval.search import Hit
from empu.store.store import Store

if TYPE_CHECKING:
    from empu.retrieval.search import TextEncoder

MAX_SHOWN = 20
"""Limit on the unreadable files that a report lists."""


class DocumentProgress:
    """One status line on a terminal, a line from time to time otherwise. Records a request to stop."""

    SECONDS_PER_LINE = 10.0

    def __init__(self) -> None:
        self._stop_requested = False
        self._last_line = time.monotonic()
        self._is_terminal = output.is_terminal(sys.stderr)

    def cancel(self) -> None:
        self._stop_requested = True
        output.message("Stopping after the current document …")

    def should_stop(self) -> bool:
        return self._stop_requested

    def on_document(self, name: str, done: int, total: int) -> None:
        line = f"{done:,} of {total:,} documents: {output.escape_controls(name)}"
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{line[:100]}")
            sys.stderr.flush()
        elif time.monotonic() - self._last_line > self.SECONDS_PER_LINE:
            output.message(line)
            self._last_line = time.monotonic()

    def close(self) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def run_ingest(ingest: Callable[[DocumentProgress], IngestReport]) -> IngestReport:
    """Run an ingest with progress and Ctrl-C."""
    progress = DocumentProgress()
    with cancel_on_ctrl_c(progress):
        try:
            return ingest(progress)
        finally:
            progress.close()


def record(store: Store, name: str, documents: Sequence[DocumentEntry]) -> None:
    """Bring the ledger up to date with a collection."""
    from empu.ledger.ledger import Ledger
    from empu.retrieval.ledger_record import record_documents

    with Ledger.open(store.ledger_path) as ledger:
        record_documents(ledger, name, documents)


def open_encoder(store: Store, collection: Collection) -> TextEncoder | None:
    """The encoder of a collection: the recorded one, or for a new collection the best one that is installed."""
    from empu.embed.text_encoder import installed_encoders

    available = {encoder.id: encoder for encoder in installed_encoders(store.home)}
    recorded = collection.setting("encoder")
    if recorded is not None:
        if recorded not in available:
            output.message(f"The encoder {recorded} of {collection.name} is not installed; searching by words only.")
        return available.get(recorded)
    if collection.counts()[0]:
        return None
    return next(iter(available.values()), None)


def find_documents(collection: Collection, names: Sequence[str]) -> list[DocumentEntry]:
    """Documents by id or path. Raises :class:`StoreError` for a name that no document has."""
    entries = []
    for name in names:
        entry = collection.document_by_id(int(name)) if name.isdigit() else None
        entry = entry or collection.document(name) or collection.document(str(Path(name).resolve()))
        if entry is None:
            raise StoreError(
                f"{collection.name} has no document {name!r}; list them with: empu docs show {collection.name}"
            )
        entries.append(entry)
    return entries


def print_report(collection: Collection, report: IngestReport) -> None:
    """Print what happened to the files."""
    documents, passages, _ = collection.counts()
    done = [
        f"{count:,} {what}"
        for count, what in (
            (len(report.added), "added"),
            (len(report.updated), "updated"),
            (report.unchanged, "unchanged"),
            (len(report.removed), "removed"),
            (len(report.failed), "not readable"),
            (len(report.skipped), "of other types skipped"),
        )
        if count
    ]
    output.message(f"Documents: {', '.join(done) or 'none'}.")
    for path, reason in report.failed[:MAX_SHOWN]:
        output.message(output.escape_controls(f"  {path}: {reason}"))
    if len(report.failed) > MAX_SHOWN:
        output.message(f"  and {len(report.failed) - MAX_SHOWN:,} more; --json lists all")
    for entry in [*report.added, *report.updated]:
        for warning in entry.warnings:
            output.message(output.escape_controls(f"  {entry.address}: {warning}"))
    encoder = collection.setting("encoder")
    index = f"words and vectors ({encoder})" if encoder else "words only (no encoder)"
    output.message(f"{collection.name} now has {documents:,} documents in {passages:,} passages, indexed by {index}.")
    if report.stopped:
        output.message("Stopped; the same command continues.")
    else:
        output.message(f'Next: empu docs search {collection.name} "…"')


def report_document(name: str, report: IngestReport) -> dict[str, Any]:
    """Return a report as JSON."""
    return {
        "collection": name,
        "added": [entry.address for entry in report.added],
        "updated": [entry.address for entry in report.updated],
        "unchanged": report.unchanged,
        "removed": [entry.address for entry in report.removed],
        "failed": [{"path": path, "reason": reason} for path, reason in report.failed],
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
        "warnings": [
            {"path": entry.address, "warning": warning}
            for entry in [*report.added, *report.updated]
            for warning in entry.warnings
        ],
        "stopped": report.stopped,
    }


def hit_document(hit: Hit) -> dict[str, Any]:
    """Return a hit as JSON."""
    passage = hit.passage
    return {
        "document": {"id": passage.document.id, "address": passage.document.address, "title": passage.document.title},
        "page": passage.page,
        "headings": list(passage.headings),
        "start_byte": passage.start,
        "end_byte": passage.end,
        "text": passage.text,
        "score": hit.score,
        "bm25": hit.bm25,
        "cosine": hit.cosine,
    }


def place(passage: StoredPassage) -> str:
    """Document, page and section of a passage."""
    parts = [passage.document.name]
    if passage.page is not None:
        parts.append(f"page {passage.page}")
    parts += [heading for heading in passage.headings if heading != passage.document.name]
    return " > ".join(parts)


def print_hits(hits: Sequence[Hit]) -> None:
    """Print passages with their place."""
    import click

    if not hits:
        output.message("Nothing was found.")
        return
    for number, hit in enumerate(hits, 1):
        click.echo(click.style(f"[{number}] {output.escape_controls(place(hit.passage))}", bold=True))
        click.echo(textwrap.indent(output.escape_controls(hit.passage.text), "    "))
        click.echo(f"    {output.escape_controls(hit.passage.document.address)}")


def print_answer(answer: QuotedAnswer) -> None:
    """Print quotations with numbers, then their sources."""
    import click

    if not answer.quotes:
        output.message("The collection has nothing about this question.")
        return
    if answer.is_refused:
        output.message(f"The documents do not answer this question{_percent(answer.confidence)}. The closest passages:")
        print_hits(answer.hits[:2])
        return
    sources = list(dict.fromkeys(quote.passage.id for quote in answer.quotes))
    shown_header = None
    for quote in answer.quotes:
        number = sources.index(quote.passage.id) + 1
        if quote.header is not None and quote.header != shown_header:
            click.echo(output.escape_controls(quote.header))
        shown_header = quote.header
        click.echo(f"{output.escape_controls(quote.text)} [{number}]")
    click.echo()
    by_id = {quote.passage.id: quote.passage for quote in answer.quotes}
    for number, passage_id in enumerate(sources, 1):
        passage = by_id[passage_id]
        click.echo(output.escape_controls(f"[{number}] {place(passage)} ({passage.document.address})"))
    if answer.confidence is None:
        output.message("Confidence unknown: this encoder has no calibration, so no question is refused.")
    else:
        output.message(f"confidence {answer.confidence:.0%}")


def _percent(confidence: float | None) -> str:
    return f" (confidence {confidence:.0%})" if confidence is not None else ""


def answer_document(answer: QuotedAnswer) -> dict[str, Any]:
    """Return an answer as JSON."""
    return {
        "refused": answer.is_refused,
        "confidence": answer.confidence,
        "quotes": [
            {
                "text": quote.text,
                "table_header": quote.header,
                "document": {"id": quote.passage.document.id, "address": quote.passage.document.address},
                "title": quote.passage.document.title,
                "page": quote.passage.page,
                "headings": list(quote.passage.headings),
                "start_byte": quote.start,
                "end_byte": quote.end,
                "score": quote.score,
            }
            for quote in answer.quotes
        ],
        "hits": [hit_document(hit) for hit in answer.hits],
    }
