"""Extraction keeps text, structure, pages and offsets; what cannot be read is refused with a reason."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from empu.retrieval.extract.document import DocumentError, ExtractedDocument
from empu.retrieval.extract.extractor import Extractor
from empu.retrieval.extract.formats import extract
from empu.retrieval.split import split
from tests.retrieval.documents import EMAIL, HANDBOOK, HTML, write_docx, write_pdf, write_pptx, write_xlsx, write_zip


def read(path: Path) -> ExtractedDocument:
    return extract(path, 3000)


def blocks(document: ExtractedDocument) -> list[tuple[str, str]]:
    return [(block.kind, document.slice(block.start, block.end)) for block in document.blocks]


def test_markdown_keeps_headings_tables_and_section_names(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(HANDBOOK)
    document = read(tmp_path / "a.md")
    assert document.title == "Returns"
    assert ("table", "| plan | fee |\n|---|---|\n| Tetes | none |\n| Muara | 12 SGD |") in blocks(document)
    assert document.blocks[-1].headings == ("Returns", "Exchange")


def test_markdown_front_matter_rules_and_setext_headings(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ntitle: x\n---\nTop\n===\n\ntext\n\n---\n\n```\n# no heading\n```\n")
    document = read(tmp_path / "a.md")
    assert blocks(document) == [("heading", "Top"), ("paragraph", "text"), ("code", "# no heading")]


def test_word_document_keeps_order_of_headings_lists_and_tables(tmp_path: Path) -> None:
    document = read(write_docx(tmp_path / "a.docx"))
    assert document.title == "Leave policy"
    assert blocks(document) == [
        ("heading", "Annual leave"),
        ("paragraph", "Employees have 24 days of annual leave."),
        ("heading", "Carry-over"),
        ("list", "- Five days may be carried over."),
        ("table", "| country | days |\n| Indonesia | 12 |"),
    ]


def test_slides_are_pages_and_notes_are_read(tmp_path: Path) -> None:
    document = read(write_pptx(tmp_path / "a.pptx"))
    assert document.pages == 2
    assert [(block.page, document.slice(block.start, block.end)) for block in document.blocks] == [
        (1, "Goals"),
        (1, "Halve the response time."),
        (2, "Budget"),
        (2, "The budget is 40,000 SGD."),
        (2, "Ask finance first."),
    ]


def test_hidden_sheets_are_not_read_and_named(tmp_path: Path) -> None:
    document = read(write_xlsx(tmp_path / "a.xlsx"))
    assert blocks(document)[1] == ("table", "| item | price |\n| hub | 79 |\n| sensor | 19.5 |")
    assert b"secret" not in document.text
    assert document.warnings == ("hidden sheet 'Margins' not read",)


def test_pdf_pages_are_kept(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [["First page."], ["Second page.", "It has two lines."]])
    document = read(path)
    assert document.pages == 2
    assert [block.page for block in document.blocks] == [1, 2]
    assert document.slice(document.blocks[1].start, document.blocks[1].end) == "Second page.\nIt has two lines."


def test_email_has_headers_and_body_and_names_attachments(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(EMAIL)
    document = read(tmp_path / "a.eml")
    assert document.title == "Invoice 4411"
    assert b"wrong address" in document.text
    assert document.warnings == ("attachment 'invoice.pdf' not read; add it as a file",)


def test_html_skips_scripts_navigation_and_hidden_text(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(HTML)
    document = read(tmp_path / "a.html")
    assert blocks(document) == [
        ("heading", "Warranty"),
        ("paragraph", "The warranty lasts two years."),
        ("table", "| part | years |\n| valve | 2 |\n| valve | 3 |"),
        ("list", "- Keep the receipt.\n- Register online."),
    ]


def test_csv_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('name;note\nA;"x | y"\n')
    assert blocks(read(tmp_path / "a.csv")) == [("table", "| name | note |\n| A | x \\| y |")]


def test_passages_cover_every_block_and_stay_within_the_limit(tmp_path: Path) -> None:
    long = "".join(f"Kalimat nomor {i} menjelaskan aturan – ya. " for i in range(200))
    rows = "\n".join(f"| row {i} | {'é' * 40} |" for i in range(60))
    (tmp_path / "a.md").write_text(f"# A\n\n## B\n\n{long}\n\n| head | two |\n|---|---|\n{rows}\n\nend\n")
    document = read(tmp_path / "a.md")
    passages = list(split(document))
    assert all(p.end - p.start <= 1_000 for p in passages)
    covered = bytearray(len(document.text))
    for p in passages:
        covered[p.start : p.end] = b"x" * (p.end - p.start)
        assert document.text[p.start : p.end].decode("utf-8") == document.slice(p.start, p.end)  # whole characters
    rest = bytes(byte for byte, seen in zip(document.text, covered, strict=True) if not seen)
    assert rest.strip() == b""
    assert document.slice(passages[0].start, passages[0].end).startswith("A\n\nB\n\nKalimat nomor 0")
    assert [p.context for p in passages if p.context] != []
    assert {p.context for p in passages} == {"", "| head | two |"}


BAD: dict[str, tuple[bytes, str]] = {
    "empty.md": (b"", "it is empty"),
    "cut.pdf": (b"%PDF-1.4\n1 0 obj", "the PDF is damaged"),
    "old.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old binary Office format"),
    "noise.bin": (bytes(range(256)), "its format is not known"),
    "cut.docx": (b"PK\x03\x04" + bytes(40), "its archive is damaged"),
    "blank.html": (b"<!doctype html><html><body><script>1</script></body></html>", "it holds no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    data, reason = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DocumentError, match=reason):
        read(tmp_path / name)


def test_zip_bombs_entities_and_encryption_are_refused(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "bomb.docx", {"word/document.xml": bytes(50_000_000)})
    with pytest.raises(DocumentError, match="zip bomb"):
        read(bomb)
    entities = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
    with pytest.raises(DocumentError, match="entities"):
        read(write_zip(tmp_path / "xxe.docx", {"word/document.xml": entities}))
    with pytest.raises(DocumentError, match="at most 1 are read"):
        extract(write_pdf(tmp_path / "long.pdf", [["a"], ["b"]]), 1)


@pytest.fixture(scope="module")
def worker() -> Iterator[Extractor]:
    with Extractor(timeout_s=20) as extractor:
        yield extractor


def test_the_worker_process_gives_the_same_document(tmp_path: Path, worker: Extractor) -> None:
    for path in (write_docx(tmp_path / "a.docx"), write_pdf(tmp_path / "b.pdf", [["Hello."]])):
        assert worker.extract(path) == read(path)


def test_the_worker_process_has_no_network_and_writes_no_files(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "from empu.retrieval.extract import worker; worker._confine()\n"
        "import socket\n"
        "try: socket.create_connection(('127.0.0.1', 9))\n"
        "except PermissionError as error: print(error)\n"
        "import os\n"
        "try: print('wrote', os.write(os.open('written-by-worker', os.O_CREAT | os.O_WRONLY), b'x'))\n"
        "except OSError as error: print('no write')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "documents are read without network" in done.stdout
    assert "no write" in done.stdout


def test_a_worker_that_hangs_or_dies_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    good = write_docx(tmp_path / "a.docx")
    with Extractor(timeout_s=20) as extractor:
        with pytest.raises(DocumentError, match="not a regular file"):
            extractor.extract(tmp_path / "pipe.md")
        extractor.extract(good)
        assert extractor._worker is not None
        extractor._worker.kill()
        extractor._worker.wait()
        extractor.extract(good)
        extractor.timeout_s = 0.0
        with pytest.raises(DocumentError, match="took longer"):
            extractor.extract(good)
        extractor.timeout_s = 20
        assert extractor.extract(good).format == "docx"


def test_mutated_files_crash_nothing(tmp_path: Path, worker: Extractor) -> None:
    """Each file opens or is refused with a sentence; the worker may die, the caller may not."""
    random_source = random.Random(7)
    originals = [
        write_docx(tmp_path / "a.docx"),
        write_pptx(tmp_path / "a.pptx"),
        write_xlsx(tmp_path / "a.xlsx"),
        write_pdf(tmp_path / "a.pdf", [["Hello world."], ["Again."]]),
    ]
    for number in range(120):
        original = random_source.choice(originals)
        data = bytearray(original.read_bytes())
        for _ in range(random_source.randint(1, 8)):
            data[random_source.randrange(len(data))] = random_source.randrange(256)
        if random_source.random() < 0.3:
            del data[random_source.randrange(len(data)) :]
        path = tmp_path / f"bad{number}{original.suffix}"
        path.write_bytes(data)
        with contextlib.suppress(DocumentError):
            worker.extract(path)
