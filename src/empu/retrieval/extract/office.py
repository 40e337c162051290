"""DOCX, PPTX and XLSX, by python-docx, python-pptx and openpyxl. The archive is checked before a library opens it."""

from __future__ import annotations

import warnings as python_warnings
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from empu.retrieval.extract.document import Block, DocumentError, table_text

MAX_UNPACKED_BYTES = 400_000_000
MAX_RATIO = 300
"""Largest ratio of unpacked to packed size of a part over 10 MB."""
MAX_PARTS = 20_000
MAX_ROWS = 200_000
MAX_COLUMNS = 500

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def check_archive(path: Path) -> set[str]:
    """Check an Office file before it is opened, and return the names of its parts.

    Refuses zip bombs, encrypted archives, and parts with a document type declaration (entity attacks): Office programs
    write none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS:
                raise DocumentError(f"its archive has {len(parts):,} parts; at most {MAX_PARTS:,} are read")
            total = 0
            for part in parts:
                if part.flag_bits & 1:
                    raise DocumentError("it is encrypted; save it without a password")
                total += part.file_size
                if part.file_size > 10_000_000 and part.file_size > MAX_RATIO * max(1, part.compress_size):
                    raise DocumentError(f"its part {part.filename} unpacks to {part.file_size:,} bytes: a zip bomb")
            if total > MAX_UNPACKED_BYTES:
                raise DocumentError(f"it unpacks to {total:,} bytes; at most {MAX_UNPACKED_BYTES:,} are read")
            for part in parts:
                if part.filename.endswith((".xml", ".rels")):
                    with archive.open(part) as file:
                        head = file.read(4096)
                    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
                        raise DocumentError(f"its part {part.filename} declares XML entities, which is unsafe")
            return {part.filename for part in parts}
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise DocumentError(f"its archive is damaged ({error})") from None


def read_docx(path: Path) -> tuple[str | None, Iterator[Block], list[str]]:
    """Return title, blocks and warnings of a Word document, in reading order. Deleted text is skipped."""
    import docx

    document = _opened("Word document", lambda: docx.Document(str(path)))
    warnings: list[str] = []
    names = {part.partname.rsplit("/", 1)[-1] for part in document.part.package.iter_parts()}
    if "footnotes.xml" in names or "endnotes.xml" in names:
        warnings.append("footnotes and endnotes are not read")
    if any(name.startswith("comments") for name in names):
        warnings.append("comments are not read")
    title = (document.core_properties.title or "").strip() or None
    return title, _word_blocks(document), warnings


def _word_blocks(document: Any) -> Iterator[Block]:
    from docx.table import Table

    for item in document.iter_inner_content():
        if isinstance(item, Table):
            yield Block("table", table_text(_word_rows(item)))
            continue
        text = _word_text(item._p)
        level = _heading_level(item)
        if level is not None:
            yield Block("heading", text, level=level)
        elif _is_list_item(item):
            yield Block("list", f"- {text}" if text.strip() else "")
        else:
            yield Block("paragraph", text)
        for box in item._p.iter(f"{_WORD}txbxContent"):
            if not any(
                True for _ in box.iterancestors("{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback")
            ):
                yield Block("paragraph", "\n".join(_word_text(p) for p in box.iter(f"{_WORD}p")))


def _heading_level(paragraph: Any) -> int | None:
    style = paragraph.style
    while style is not None:
        name = (style.name or "").lower()
        if name == "title":
            return 1
        if name.startswith("heading ") and name[8:].isdigit():
            return int(name[8:])
        style = style.base_style
    return None


def _is_list_item(paragraph: Any) -> bool:
    if paragraph._p.pPr is not None and paragraph._p.pPr.numPr is not None:
        return True
    style = paragraph.style
    return style is not None and (style.name or "").lower().startswith("list")


def _word_text(paragraph: Any) -> str:
    """Text of a paragraph: inserted text and links included, deleted text and text boxes not."""
    parts: list[str] = []
    skipped = {f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}txbxContent", f"{_WORD}instrText"}

    def walk(node: Any) -> None:
        for child in node:
            if child.tag in skipped:
                continue
            if child.tag == f"{_WORD}t":
                parts.append(child.text or "")
            elif child.tag == f"{_WORD}tab":
                parts.append("\t")
            elif child.tag in (f"{_WORD}br", f"{_WORD}cr"):
                parts.append("\n")
            elif child.tag == f"{_WORD}noBreakHyphen":
                parts.append("-")
            else:
                walk(child)

    walk(paragraph)
    return "".join(parts)


def _word_rows(table: Any) -> Iterator[list[str]]:
    """Rows of a table. A merged cell is repeated in each column and row that it covers, so columns stay aligned."""
    for row in table.rows:
        cells = [" ".join(_word_text(p) for p in cell._tc.iter(f"{_WORD}p")) for cell in row.cells]
        yield [""] * row.grid_cols_before + cells


def read_pptx(path: Path, max_pages: int) -> tuple[str | None, int, Iterator[Block], list[str]]:
    """Return title, number of slides, blocks and warnings of a presentation. A slide is a page."""
    import pptx

    deck = _opened("presentation", lambda: pptx.Presentation(str(path)))
    slides = len(deck.slides)
    if slides > max_pages:
        raise DocumentError(f"it has {slides:,} slides, and at most {max_pages:,} are read; split it")
    warnings: list[str] = []
    title = (deck.core_properties.title or "").strip() or None
    return title, slides, _slide_blocks(deck, warnings), warnings


def _slide_blocks(deck: Any, warnings: list[str]) -> Iterator[Block]:
    pictures = hidden = 0
    for number, slide in enumerate(deck.slides, 1):
        if slide._element.get("show") == "0":
            hidden += 1
            continue
        heading = slide.shapes.title
        if heading is not None and heading.has_text_frame and heading.text_frame.text.strip():
            yield Block("heading", heading.text_frame.text, page=number, level=1)
        for shape in _shapes(slide.shapes):
            if heading is not None and shape.shape_id == heading.shape_id:
                continue
            if getattr(shape, "has_table", False) and shape.has_table:
                rows = [[cell.text_frame.text for cell in row.cells] for row in shape.table.rows]
                yield Block("table", table_text(rows), page=number)
            elif shape.has_text_frame:
                yield Block("paragraph", shape.text_frame.text.replace("\v", "\n"), page=number)
            elif shape.shape_type == 13:
                pictures += 1
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            yield Block("paragraph", slide.notes_slide.notes_text_frame.text, page=number)
    if hidden:
        warnings.append(f"{hidden} hidden slide{'s' * (hidden > 1)} not read")
    if pictures:
        warnings.append(f"{pictures} picture{'s' * (pictures > 1)} not read")


def _shapes(shapes: Iterable[Any]) -> Iterator[Any]:
    for shape in shapes:
        if shape.shape_type == 6:  # a group
            yield from _shapes(shape.shapes)
        else:
            yield shape


def read_xlsx(path: Path, max_pages: int) -> tuple[str | None, int, Iterator[Block], list[str]]:
    """Return title, number of sheets, blocks and warnings of a workbook. A sheet is a page; hidden ones are skipped."""
    import openpyxl

    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        workbook = _opened("workbook", lambda: openpyxl.load_workbook(path, read_only=True, data_only=True))
    sheets = workbook.worksheets
    if len(sheets) > max_pages:
        raise DocumentError(f"it has {len(sheets):,} sheets, and at most {max_pages:,} are read; split it")
    hidden = [sheet.title for sheet in sheets if sheet.sheet_state != "visible"]
    warnings = [f"hidden sheet {name!r} not read" for name in hidden]
    title = (workbook.properties.title or "").strip() or None
    return title, len(sheets), _sheet_blocks(sheets, warnings), warnings


def _sheet_blocks(sheets: Iterable[Any], warnings: list[str]) -> Iterator[Block]:
    for number, sheet in enumerate(sheets, 1):
        if sheet.sheet_state != "visible":
            continue
        yield Block("heading", sheet.title, page=number, level=1)
        sheet.reset_dimensions()  # files that misstate their size would lose cells
        rows: list[list[str]] = []
        count = 0
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            for values in sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS):
                cells = [_cell(value) for value in values]
                while cells and not cells[-1]:
                    cells.pop()
                if not cells:
                    if rows:
                        yield Block("table", table_text(rows), page=number)
                        rows = []
                    continue
                rows.append(cells)
                count += 1
                if count >= MAX_ROWS:
                    warnings.append(f"sheet {sheet.title!r}: rows after {MAX_ROWS:,} are not read")
                    break
        if rows:
            yield Block("table", table_text(rows), page=number)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return value.isoformat(" ") if value.time() != time(0) else value.date().isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _opened(what: str, opener: Any) -> Any:
    try:
        return opener()
    except Exception as error:  # the libraries raise errors of many kinds for damaged files
        reason = " ".join(str(error).split())[:120]
        raise DocumentError(f"the {what} is damaged ({type(error).__name__}: {reason})") from None
