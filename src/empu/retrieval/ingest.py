"""Adds files and folders to a collection: find, hash, extract, split, embed, store. What has not changed is skipped.

Each document is stored in one transaction, so an interrupted run loses at most one document, and the same call
continues it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from empu.errors import UsageError
from empu.retrieval.collection import Collection, DocumentEntry, Vectors, searched_text
from empu.retrieval.extract.document import DocumentError, ExtractedDocument
from empu.retrieval.extract.extractor import Extractor
from empu.retrieval.extract.formats import SUFFIXES
from empu.retrieval.search import TextEncoder
from empu.retrieval.split import Passage, split

BATCH = 64
"""Passages that are encoded at once."""


class IngestProgress(Protocol):
    """Receives the progress of :func:`add_paths`."""

    def on_document(self, name: str, done: int, total: int) -> None:
        """Before each file."""

    def should_stop(self) -> bool:
        """Whether to stop before the next file."""


@dataclass(slots=True)
class IngestReport:
    """What happened to each file."""

    added: list[DocumentEntry] = field(default_factory=list)
    updated: list[DocumentEntry] = field(default_factory=list)
    unchanged: int = 0
    removed: list[DocumentEntry] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason)."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Files of a folder whose format is not read: (path, reason)."""
    passages: int = 0
    text_bytes: int = 0
    stopped: bool = False


def find_files(paths: Sequence[Path], report: IngestReport) -> list[Path]:
    """Files below ``paths``, in order. Files of other formats inside folders are noted in ``report``.

    Hidden files and folders are not entered. Raises :class:`UsageError` for a path that does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            for file in _walk(path.resolve()):
                if file.suffix.lower() in SUFFIXES:
                    found[file] = None
                else:
                    report.skipped.append((str(file), f"files of type {file.suffix or 'none'!r} are not read"))
        elif path.exists():
            found[path.resolve()] = None
        else:
            raise UsageError(f"{path} does not exist; give a file or folder of documents.")
    return list(found)


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "~$")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry


def add_paths(
    collection: Collection,
    paths: Sequence[Path],
    *,
    encoder: TextEncoder | None,
    licence: str,
    added_by: str,
    progress: IngestProgress,
    extractor: Extractor | None = None,
) -> IngestReport:
    """Add files and folders. A file that cannot be read is reported, and the next one follows."""
    report = IngestReport()
    files = find_files(paths, report)
    check_encoder(collection, encoder)
    with extractor or Extractor() as worker:
        for number, file in enumerate(files):
            if progress.should_stop():
                report.stopped = True
                break
            progress.on_document(file.name, number, len(files))
            try:
                _add_file(collection, file, worker, encoder, licence, added_by, report)
            except DocumentError as error:
                report.failed.append((str(file), str(error)))
    return report


def update(
    collection: Collection,
    *,
    encoder: TextEncoder | None,
    progress: IngestProgress,
    extractor: Extractor | None = None,
) -> IngestReport:
    """Read again what changed on disk, and remove documents whose file is gone."""
    report = IngestReport()
    check_encoder(collection, encoder)
    entries = [entry for entry in collection.documents() if entry.address.startswith("/")]
    missing = []
    with extractor or Extractor() as worker:
        for number, entry in enumerate(entries):
            if progress.should_stop():
                report.stopped = True
                break
            file = Path(entry.address)
            progress.on_document(entry.name, number, len(entries))
            if not file.is_file():
                missing.append(entry)
                continue
            try:
                _add_file(collection, file, worker, encoder, entry.licence, entry.added_by, report)
            except DocumentError as error:
                report.failed.append((str(file), str(error)))
    if missing:
        collection.remove([entry.id for entry in missing])
        report.removed = missing
    elif report.updated:
        collection.purge()
    return report


def add_text(
    collection: Collection,
    address: str,
    extracted: ExtractedDocument,
    data: bytes,
    *,
    encoder: TextEncoder | None,
    licence: str,
    added_by: str,
    modified_ns: int | None = None,
) -> DocumentEntry:
    """Add one extracted document whose file had the bytes ``data``."""
    passages = list(split(extracted))
    entry = DocumentEntry(
        0,
        address,
        extracted.title,
        extracted.format,
        hashlib.sha256(data).hexdigest(),
        len(data),
        modified_ns,
        extracted.pages,
        licence,
        added_by,
        datetime.now(UTC).isoformat(timespec="seconds"),
        extracted.warnings,
    )
    document = collection.add(entry, extracted, passages, encode_passages(encoder, extracted, passages))
    stored = collection.document_by_id(document)
    assert stored is not None
    return stored


def encode_passages(
    encoder: TextEncoder | None, extracted: ExtractedDocument, passages: Sequence[Passage]
) -> Vectors | None:
    """Vectors of passages, (passages, width); ``None`` without an encoder."""
    if encoder is None or not passages:
        return None
    texts = [searched_text(extracted, passage) for passage in passages]
    return np.concatenate([encoder.encode_passages(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])


def check_encoder(collection: Collection, encoder: TextEncoder | None) -> None:
    """Record the encoder of a new collection; refuse to mix vectors of two encoders."""
    recorded = collection.setting("encoder")
    if encoder is None:
        if recorded:
            raise UsageError(
                f"The collection {collection.name!r} has vectors of the encoder {recorded}, which is not available; "
                "pull it first."
            )
        return
    if recorded is None and collection.counts()[0] == 0:
        collection.set_setting("encoder", encoder.id)
    elif recorded != encoder.id:
        raise UsageError(
            f"The collection {collection.name!r} was indexed with {recorded or 'no encoder'}, not with {encoder.id}; "
            "make a new collection, or remove this one first."
        )


def _add_file(
    collection: Collection,
    file: Path,
    worker: Extractor,
    encoder: TextEncoder | None,
    licence: str,
    added_by: str,
    report: IngestReport,
) -> None:
    address = str(file)
    previous = collection.document(address)
    try:
        status = file.stat()
        if previous is not None and (status.st_size, status.st_mtime_ns) == (previous.size, previous.modified_ns):
            report.unchanged += 1
            return
        data = file.read_bytes()
    except OSError as error:
        raise DocumentError(f"it cannot be read ({error.strerror})") from None
    if previous is not None and hashlib.sha256(data).hexdigest() == previous.sha256:
        collection.touch(previous.id, status.st_mtime_ns)
        report.unchanged += 1
        return
    extracted = worker.extract(file)
    entry = add_text(
        collection,
        address,
        extracted,
        data,
        encoder=encoder,
        licence=licence,
        added_by=added_by,
        modified_ns=status.st_mtime_ns,
    )
    (report.updated if previous is not None else report.added).append(entry)
    report.text_bytes += len(extracted.text)
