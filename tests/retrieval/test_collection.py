"""Collections: exact citations, hybrid search, updates, and removal that leaves no byte behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from empu.errors import StoreError, UsageError
from empu.retrieval.collection import Collection, Collections, Vectors
from empu.retrieval.ingest import IngestReport, add_paths, update
from empu.retrieval.search import search
from tests.retrieval.documents import HANDBOOK, write_docx, write_pdf


class LetterEncoder:
    """Counts letters: close enough to a real encoder for tests of the plumbing."""

    id = "letters-1"

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        counts = np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        vectors = counts.astype(np.float32) + 0.01
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    encode_passages = encode_queries


class Silent:
    """Progress that nobody watches; stops after ``stop_after`` documents."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.left = stop_after

    def on_document(self, name: str, done: int, total: int) -> None:
        self.left -= 1

    def should_stop(self) -> bool:
        return self.left <= 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "returns.md").write_text(HANDBOOK)
    (documents / "cuti.txt").write_text("Karyawan mendapat cuti tahunan 12 hari.\n\nCuti sakit dibayar penuh.")
    write_docx(documents / "leave.docx")
    write_pdf(documents / "safety.pdf", [["Wear a helmet."], ["Call 112 in an emergency."]])
    (documents / "photo.jpg").write_bytes(b"\xff\xd8")
    (documents / ".hidden.md").write_text("hidden")
    return documents


def add(collection: Collection, *paths: Path, stop_after: int = 10**9, encode: bool = True) -> IngestReport:
    encoder = LetterEncoder() if encode else None
    return add_paths(
        collection, paths, encoder=encoder, licence="CC0-1.0", added_by="test", progress=Silent(stop_after)
    )


def test_a_folder_is_added_found_and_cited_exactly(tmp_path: Path, folder: Path) -> None:
    with Collections(tmp_path).open("handbook", create=True) as collection:
        report = add(collection, folder)
        assert len(report.added) == 4
        assert report.failed == []
        assert [Path(path).name for path, _ in report.skipped] == ["photo.jpg"]
        hits = search(collection, "when is the refund paid", encoder=LetterEncoder())
        best = hits[0].passage
        assert "The refund is paid within **five** working days." in best.text
        assert collection.text(best.document.id)[best.start : best.end].decode() == best.text
        assert best.document.title == "Returns"
        (emergency, *_) = search(collection, "emergency", encoder=None)
        assert (emergency.passage.page, emergency.passage.document.format) == (2, "pdf")


def test_unchanged_files_are_skipped_and_changed_files_replaced(tmp_path: Path, folder: Path) -> None:
    with Collections(tmp_path).open("c", create=True) as collection:
        add(collection, folder)
        assert add(collection, folder).unchanged == 4
        (folder / "cuti.txt").write_text("Karyawan mendapat cuti tahunan 14 hari.")
        (folder / "safety.pdf").unlink()
        report = update(collection, encoder=LetterEncoder(), progress=Silent())
        assert [entry.name for entry in report.updated] == ["cuti.txt"]
        assert [entry.name for entry in report.removed] == ["safety.pdf"]
        assert report.unchanged == 2
        assert "14 hari" in search(collection, "cuti tahunan", encoder=None)[0].passage.text
        assert search(collection, "helmet", encoder=None) == []


def test_an_interrupted_run_is_continued(tmp_path: Path, folder: Path) -> None:
    with Collections(tmp_path).open("c", create=True) as collection:
        assert add(collection, folder, stop_after=2).stopped
        assert len(collection.documents()) == 2
        report = add(collection, folder)
        assert (len(report.added), report.unchanged, report.stopped) == (2, 2, False)


def test_removed_documents_leave_no_byte_behind(tmp_path: Path) -> None:
    secrets = [f"rahasia{i}xyzzy" for i in range(20)]
    documents = tmp_path / "in"
    documents.mkdir()
    for i, secret in enumerate(secrets):
        (documents / f"{i}.txt").write_text(f"Nomor {secret} milik pelanggan {i}. " * 5)
    (documents / "kept.txt").write_text("This stays.")
    collections = Collections(tmp_path / "home")
    with collections.open("c", create=True) as collection:
        add(collection, documents)
        gone = [entry.id for entry in collection.documents() if "kept" not in entry.address]
        collection.remove(gone)
        assert search(collection, secrets[3], encoder=None) == []
        assert [entry.name for entry in collection.documents()] == ["kept.txt"]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"This stays." in stored
    for secret in secrets:
        for encoded in (secret.encode(), secret.encode("utf-16-le"), secret.upper().encode(), secret[:9].encode()):
            assert encoded not in stored


def test_vectors_of_two_encoders_are_never_mixed(tmp_path: Path, folder: Path) -> None:
    class Other(LetterEncoder):
        id = "letters-2"

    with Collections(tmp_path).open("c", create=True) as collection:
        add(collection, folder)
        with pytest.raises(UsageError, match="was indexed with letters-1"):
            add_paths(collection, [folder], encoder=Other(), licence="x", added_by="x", progress=Silent())
        hits = search(collection, "emergency", encoder=Other())
        assert hits[0].cosine is None


def test_int8_vectors_keep_the_ranking(tmp_path: Path, folder: Path) -> None:
    with Collections(tmp_path).open("c", create=True) as collection:
        add(collection, folder)
        ids, vectors = collection.matrix()
        exact = LetterEncoder().encode_passages(
            [row[0] for row in collection._query("SELECT searched FROM passages ORDER BY id")]
        )
        assert len(ids) == len(exact)
        assert np.abs(vectors - exact).max() < 0.005


def test_bad_names_and_missing_things_are_refused(tmp_path: Path) -> None:
    collections = Collections(tmp_path)
    for name in ("", "../x", "A", "a/b", "a" * 64):
        with pytest.raises(UsageError):
            collections.open(name, create=True)
    with pytest.raises(StoreError, match="There is no collection 'none'"):
        collections.open("none")
    with collections.open("c", create=True) as collection, pytest.raises(UsageError, match="does not exist"):
        add(collection, tmp_path / "nothing")


def test_a_deleted_collection_is_gone(tmp_path: Path, folder: Path) -> None:
    collections = Collections(tmp_path)
    with collections.open("c", create=True) as collection:
        add(collection, folder, encode=False)
    assert collections.names() == ["c"]
    collections.delete("c")
    assert collections.names() == []
