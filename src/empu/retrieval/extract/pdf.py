"""PDF, by pypdfium2. Pages without text are read by the program ``tesseract`` where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empu.retrieval.extract.document import Block, DocumentError

OCR_DPI = 200
OCR_TIMEOUT_S = 60


def read_pdf(path: Path, max_pages: int) -> tuple[str | None, int, Iterator[Block], list[str]]:
    """Return title, number of pages, blocks, and warnings; the warnings are complete when the blocks were read."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise DocumentError("it is encrypted with a password; save it without one") from None
        raise DocumentError(f"the PDF is damaged ({error})") from None
    pages = len(pdf)
    if pages > max_pages:
        raise DocumentError(f"it has {pages:,} pages, and at most {max_pages:,} are read; split it")
    if pages == 0:
        raise DocumentError("the PDF has no pages")
    title = (pdf.get_metadata_dict().get("Title") or "").strip() or None
    warnings: list[str] = []
    return title, pages, _blocks(pdf, warnings), warnings


def _blocks(pdf: Any, warnings: list[str]) -> Iterator[Block]:
    outline = _outline(pdf)
    without_text: list[int] = []
    unreadable: list[int] = []
    for i in range(len(pdf)):
        for level, name in outline.get(i, ()):
            yield Block("heading", name, page=i + 1, level=level)
        try:
            page = pdf[i]
            text_page = page.get_textpage()
            text = text_page.get_text_bounded()
            text_page.close()
        except Exception:  # pypdfium2 raises errors of several kinds for damaged pages
            unreadable.append(i + 1)
            continue
        text = text.replace("￾", "-").replace("\r\n", "\n")
        if not text.strip():
            text = _ocr(page) or ""
            if not text.strip():
                without_text.append(i + 1)
        page.close()
        headings = {name for _, name in outline.get(i, ())}
        for paragraph in _paragraphs(text):
            if " ".join(paragraph.split()) not in headings:
                yield Block("paragraph", paragraph, page=i + 1)
    if unreadable:
        warnings.append(f"{_pages(unreadable)} cannot be read")
    if without_text:
        advice = "" if shutil.which("tesseract") else "; install tesseract to read scanned pages"
        warnings.append(f"{_pages(without_text)} without text (scanned or empty){advice}")


def _outline(pdf: Any) -> dict[int, list[tuple[int, str]]]:
    """Page index -> (level, title) of the outline entries that point to it."""
    entries: dict[int, list[tuple[int, str]]] = {}
    try:
        for item in pdf.get_toc(max_depth=6):
            destination = item.get_dest()
            index = destination.get_index() if destination is not None else None
            name = " ".join((item.get_title() or "").split())
            if index is not None and name:
                entries.setdefault(index, []).append((item.level + 1, name))
    except Exception:  # a damaged outline costs the headings only
        return {}
    return entries


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a page: separated by blank lines, or ended by a short line with a full stop."""
    for part in re.split(r"\n[ \t]*\n", text):
        lines = part.split("\n")
        width = max(map(len, lines))
        start = 0
        for i, line in enumerate(lines[:-1]):
            if len(line) < 0.7 * width and line.rstrip().endswith((".", "!", "?", ":")):
                yield "\n".join(lines[start : i + 1])
                start = i + 1
        yield "\n".join(lines[start:])


def _ocr(page: Any) -> str | None:
    program = shutil.which("tesseract")
    if program is None:
        return None
    bitmap = page.render(scale=OCR_DPI / 72, grayscale=True)
    image = bitmap.to_numpy()
    header = f"P5 {image.shape[1]} {image.shape[0]} 255\n".encode()
    try:
        done = subprocess.run(
            [program, "stdin", "stdout", "--psm", "3"],
            input=header + image.tobytes(),
            capture_output=True,
            timeout=OCR_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _pages(numbers: list[int]) -> str:
    """``page 3``, ``pages 3, 4 and 9 more``."""
    if len(numbers) == 1:
        return f"page {numbers[0]}"
    shown = ", ".join(map(str, numbers[:5]))
    return f"pages {shown}" + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
