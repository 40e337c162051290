"""Workbooks and Parquet files give what a person sees in them, and what is hidden or missing is named."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from empu.data.formats.workbook import unescape
from empu.errors import EmpuError
from tests.data.reading import read, report_of, sentences

openpyxl = pytest.importorskip("openpyxl")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = sentences(30)


def saved(book: Any) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def new_book(rows: list[Any] | None = None) -> Any:
    book = openpyxl.Workbook()
    for row in [("text", "label"), *(ROWS if rows is None else rows)]:
        book.active.append(row)
    return book


def as_parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(arrow.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("a_x000D_\nb", "a\nb"),
        ("a_x000D_b", "a\nb"),
        ("a_x000d_b", "a\nb"),
        ("a_x0009_b", "a\tb"),
        ("a_x005F_x000D_b", "a_x000D_b"),
        ("snake_xyz_case", "snake_xyz_case"),
    ],
)
def test_escapes_of_excel_are_characters(written: str, read_as: str) -> None:
    assert unescape(written) == read_as


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.xlsx"])
def test_an_escaped_line_end_is_a_line_end_in_every_format(tmp_path: Path, name: str) -> None:
    rows = [(text.replace(": ", ":_x000D_\n"), label) for text, label in ROWS]
    content: Any = {
        "a.csv": "\n".join(["text,label", *(f'"{text}",{label}' for text, label in rows)]),
        "a.jsonl": [{"text": text, "label": label} for text, label in rows],
        "a.parquet": as_parquet({"text": [text for text, _ in rows], "label": [label for _, label in rows]}),
        "a.xlsx": saved(new_book(rows)),
    }[name]
    kept, _, _ = read(tmp_path / name, content)
    assert [row.question() for row in kept] == [text.replace(": ", ":\n") for text, _ in ROWS]


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
def test_hidden_sheets_are_not_used_and_named(tmp_path: Path, state: str) -> None:
    book = new_book()
    sheet = book.create_sheet("old")
    sheet.sheet_state = state
    for row in [("text", "label"), ("An old ticket of last year", "legacy")]:
        sheet.append(row)
    kept, _, data = read(tmp_path / "a.xlsx", saved(book))
    assert len(kept) == 30
    assert any("hidden sheets are not used: old" in line for line in data.lines())
    kept, _, _ = read(tmp_path / "a.xlsx", saved(book), {"sheet": "old"})
    assert [row.label for row in kept] == ["legacy"]


def test_hidden_sheets_with_other_columns_do_not_disturb(tmp_path: Path) -> None:
    book = new_book()
    sheet = book.create_sheet("prices")
    sheet.sheet_state = "hidden"
    for row in [("item", "price"), ("lamp", 3)]:
        sheet.append(row)
    assert len(read(tmp_path / "a.xlsx", saved(book))[0]) == 30


def test_hidden_rows_are_counted_and_not_used(tmp_path: Path) -> None:
    book = new_book()
    for number in (3, 4, 9):
        book.active.row_dimensions[number].hidden = True
    kept, excluded, data = read(tmp_path / "a.xlsx", saved(book))
    assert (len(kept), [record.number for record in excluded]) == (27, [3, 4, 9])
    assert {record.category for record in excluded} == {"hidden"}
    assert any("3 hidden rows are not used" in line for line in data.lines())


def test_merged_labels_hold_for_each_of_their_rows(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(("label", "text"))
    for i, (text, _) in enumerate(ROWS):
        book.active.append((["parcel", "refund", "broken"][i // 10] if i % 10 == 0 else None, text))
    for first in (2, 12, 22):
        book.active.merge_cells(f"A{first}:A{first + 9}")
    kept, excluded, _ = read(tmp_path / "a.xlsx", saved(book))
    assert [row.label for row in kept] == ["parcel"] * 10 + ["refund"] * 10 + ["broken"] * 10
    assert not excluded


def test_a_cell_that_is_empty_and_not_merged_stays_empty(tmp_path: Path) -> None:
    _, excluded, _ = read(tmp_path / "a.xlsx", saved(new_book([*ROWS, ("One more of them", None)])))
    assert [record.reason for record in excluded] == ["the label is empty"]


def test_a_formula_without_a_stored_value_is_named_with_what_to_do(tmp_path: Path) -> None:
    rows = [*ROWS[:25], *((text, '=UPPER("parcel")') for text, _ in ROWS[25:])]
    kept, excluded, _ = read(tmp_path / "a.xlsx", saved(new_book(rows)))
    assert (len(kept), len(excluded)) == (25, 5)
    assert "is a formula whose value is not stored" in excluded[0].reason
    assert "open the file in a spreadsheet program and save it" in excluded[0].reason


def test_titles_above_the_header_of_a_sheet_are_passed_over(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [("Export of the help desk",), ("3 May",), (), ("text", "label", "id"), *((*row, 1) for row in ROWS)]:
        book.active.append(row)
    kept, _, data = read(tmp_path / "a.xlsx", saved(book))
    assert (len(kept), kept[0].number) == (30, 5)
    assert any("the header is in row 4" in line for line in data.lines())


def test_the_row_of_the_header_can_be_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [("made", "by"), ("the", "desk"), ("words", "sort"), *ROWS]:
        book.active.append(row)
    assert len(read(tmp_path / "a.xlsx", saved(book), {"header": "3"})[0]) == 30


def test_a_repeated_header_in_a_sheet_is_no_row(tmp_path: Path) -> None:
    kept, excluded, _ = read(tmp_path / "a.xlsx", saved(new_book([*ROWS, ("text", "label")])))
    assert (len(kept), [record.category for record in excluded]) == (30, ["repeated header"])


def test_warnings_of_libraries_do_not_reach_the_user(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with zipfile.ZipFile(io.BytesIO(saved(new_book()))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    extension = b'<extLst><ext uri="{78C0D931-6437-407d-A8EE-F0AAD7539E65}"/></extLst></worksheet>'
    parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"].replace(b"</worksheet>", extension)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert len(read(tmp_path / "a.xlsx", out.getvalue())[0]) == 30
    assert not recwarn.list


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument sheet"),
        ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "a PowerPoint document"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "a Word document"),
        ("application/vnd.ms-excel.sheet.binary.macroEnabled.main", "a binary Excel workbook"),
        ("something/else", "an archive"),
    ],
)
def test_other_documents_in_archives_are_named(tmp_path: Path, content_type: str, kind: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", f'<Types><Override ContentType="{content_type}"/></Types>')
    with pytest.raises(EmpuError, match=kind):
        read(tmp_path / "a.xlsx", out.getvalue())


def test_columns_that_cannot_be_read_matter_only_if_they_are_used(tmp_path: Path) -> None:
    nanoseconds = arrow.array([1_700_000_000_000_000_001] * 30, arrow.timestamp("ns"))
    columns = {
        "text": [text for text, _ in ROWS],
        "label": [label for _, label in ROWS],
        "struct": arrow.StructArray.from_arrays([nanoseconds], ["at"]),
        "list": arrow.array([[1_700_000_000_000_000_001]] * 30, arrow.list_(arrow.timestamp("ns"))),
        "span": arrow.array([[1_001]] * 30, arrow.list_(arrow.duration("ns"))),
    }
    content = as_parquet(columns)
    assert len(read(tmp_path / "a.parquet", content)[0]) == 30
    kept, excluded, _ = read(tmp_path / "a.parquet", content, {"text": "text", "label": "struct"})
    assert not kept
    assert "cannot be read" in excluded[0].reason


def test_the_report_of_a_workbook_counts_every_row(tmp_path: Path) -> None:
    report = report_of(tmp_path / "a.xlsx", saved(new_book()))
    assert (report.read, report.kept) == (30, 30)
