"""Marks, spaces, headers and titles of CSV and TSV files swallow no row and teach no wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.errors import EmpuError
from tests.data.reading import read, sentences

ROWS = sentences(30)


def table(rows: list[tuple[str, str]], delimiter: str = ",", header: str = "text,label") -> str:
    lines = [header.replace(",", delimiter), *(delimiter.join(row) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("name", "delimiter"), [("a.tsv", "\t"), ("a.csv", ","), ("b.csv", ";"), ("c.txt", "|")])
@pytest.mark.parametrize("closing", ["", '"'])
def test_a_stray_mark_at_the_start_of_a_cell_costs_at_most_its_line(
    tmp_path: Path, name: str, delimiter: str, closing: str
) -> None:
    rows = list(ROWS)
    rows[4] = ('"' + rows[4][0], rows[4][1])
    rows[20] = (rows[20][0] + '"', rows[20][1])
    kept, excluded, _ = read(tmp_path / name, table(rows, delimiter))
    assert len(kept) + len(excluded) == 30
    assert len(excluded) == (0 if delimiter == "\t" else 1)
    assert not any("\n" in row.question() for row in kept)
    if excluded:
        assert excluded[0].number == 6
        assert "quotation mark" in excluded[0].reason


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_several_stray_marks_cost_a_line_each(tmp_path: Path, delimiter: str) -> None:
    rows = list(ROWS)
    for i in (3, 12, 21):
        rows[i] = ('"' + rows[i][0], rows[i][1])
    for i in (7, 16, 26):
        rows[i] = (rows[i][0] + '"', rows[i][1])
    kept, excluded, _ = read(tmp_path / "a.csv", table(rows, delimiter))
    assert [record.number for record in excluded] == [5, 14, 23]
    assert len(kept) == 27


def test_a_stray_mark_without_a_label_column_costs_its_line(tmp_path: Path) -> None:
    pairs = [(f"How do I open the {text[:40]}", f"Press the button number {i}") for i, (text, _) in enumerate(ROWS)]
    pairs[4] = ('"' + pairs[4][0], pairs[4][1])
    pairs[9] = (pairs[9][0] + '"', pairs[9][1])
    kept, excluded, _ = read(tmp_path / "a.csv", table(pairs, header="prompt,completion"))
    assert (len(kept), [record.number for record in excluded]) == (29, [6])


def test_cells_with_line_ends_and_delimiters_stay_whole(tmp_path: Path) -> None:
    mail = '"Hello,\nmy order, number 5, is late.\n\nThanks, Joe"'
    kept, excluded, _ = read(tmp_path / "a.csv", table([(mail, "parcel"), *ROWS, (mail.replace("5", "6"), "refund")]))
    assert (len(kept), len(excluded)) == (32, 0)
    assert kept[0].question() == mail.strip('"')


def test_one_cell_of_two_lines_stays_whole(tmp_path: Path) -> None:
    kept, excluded, _ = read(tmp_path / "a.csv", table([*ROWS, ('"Hello, it broke\nplease help"', "broken")]))
    assert (len(kept), len(excluded)) == (31, 0)
    assert kept[-1].question() == "Hello, it broke\nplease help"


def test_lines_of_a_refused_record_are_counted_one_by_one(tmp_path: Path) -> None:
    broken = '"He said "no" to me\nand again, he did\nto "the" end",parcel\n'
    kept, excluded, _ = read(tmp_path / "a.csv", table(ROWS) + broken)
    assert len(kept) == 30
    assert [record.number for record in excluded] == [32, 33, 34]


def test_marks_in_a_tab_separated_file_are_text(tmp_path: Path) -> None:
    rows = [*ROWS[:10], ('"Great" it is not', "broken"), ('the 5" pipe', "broken"), ('"', "refund"), *ROWS[10:]]
    kept, _, _ = read(tmp_path / "a.tsv", table(rows, "\t"))
    assert [row.question() for row in kept] == [text for text, _ in rows]


def test_marks_in_a_tab_separated_file_that_is_quoted_enclose_cells(tmp_path: Path) -> None:
    all_quoted = "\n".join(f'"{text}"\t"{label}"' for text, label in [("text", "label"), *ROWS])
    kept, _, _ = read(tmp_path / "a.tsv", all_quoted)
    assert kept[0].fields == {"text": ROWS[0][0], "label": ROWS[0][1]}
    where_needed = table([*ROWS, ('"He said ""no"""', "refund"), ('"a\ttab and a\nline"', "broken")], "\t")
    kept, excluded, _ = read(tmp_path / "b.tsv", where_needed)
    assert not excluded
    assert [row.question() for row in kept[-2:]] == ['He said "no"', "a\ttab and a\nline"]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_a_blank_between_delimiter_and_mark_is_no_part_of_the_cell(tmp_path: Path, delimiter: str) -> None:
    rows = [(f'"{text}{delimiter} please"', f' "{label}"') for text, label in ROWS]
    kept, excluded, _ = read(tmp_path / "a.csv", table(rows, delimiter, f"text,{' label'}"))
    assert (len(kept), len(excluded)) == (30, 0)
    assert {row.label for row in kept} == {"parcel", "refund", "broken"}


def test_a_mark_after_a_comma_inside_a_text_stays(tmp_path: Path) -> None:
    kept, _, _ = read(tmp_path / "a.csv", table([*ROWS, ('"Yes, ""maybe"" he said"', "refund")]))
    assert kept[-1].question() == 'Yes, "maybe" he said'


@pytest.mark.parametrize("repeated", ["text,label", "Text,Label", '"text","label"'])
def test_a_repeated_header_is_no_row(tmp_path: Path, repeated: str) -> None:
    content = table(ROWS[:15]) + repeated + "\n" + "\n".join(",".join(row) for row in ROWS[15:])
    kept, excluded, _ = read(tmp_path / "a.csv", content)
    assert len(kept) == 30
    assert [(record.number, record.category) for record in excluded] == [(17, "repeated header")]


def test_a_repeated_header_in_json_lines_is_no_row(tmp_path: Path) -> None:
    objects = [{"text": text, "label": label} for text, label in ROWS]
    kept, excluded, _ = read(tmp_path / "a.jsonl", [*objects, {"text": "text", "label": "label"}])
    assert (len(kept), len(excluded)) == (30, 1)


@pytest.mark.parametrize("commas", [",", ",,", ", ,"])
def test_empty_cells_at_the_end_do_not_count(tmp_path: Path, commas: str) -> None:
    content = "text,label\n" + "".join(f"{text},{label}{commas}\n" for text, label in ROWS)
    kept, excluded, _ = read(tmp_path / "a.csv", content)
    assert (len(kept), len(excluded)) == (30, 0)


def test_empty_names_at_the_end_of_the_header_do_not_count(tmp_path: Path) -> None:
    kept, excluded, data = read(tmp_path / "a.csv", table(ROWS).replace("text,label\n", "text,label,,\n"))
    assert (len(kept), len(excluded)) == (30, 0)
    assert data.tables[0].columns.unused == ()


@pytest.mark.parametrize(
    "title", ["Help desk export\n", "Export,,\nof May,,\n\n", "Export 2031;from the desk\n\n\n", "a,b,c\nd,e,f\n"]
)
def test_titles_above_the_header_are_passed_over_and_said(tmp_path: Path, title: str) -> None:
    content = title + "id,text,label\n" + "".join(f"{i},{text},{label}\n" for i, (text, label) in enumerate(ROWS))
    kept, excluded, data = read(tmp_path / "a.csv", content)
    assert (len(kept), len(excluded)) == (30, 0)
    assert kept[0].number == title.count("\n") + 2
    assert any("the header is in line" in line for line in data.lines())


def test_the_line_of_the_header_can_be_named(tmp_path: Path) -> None:
    content = "made by,the desk\non,Monday\n" + table(ROWS, header="words,sort")
    kept, _, _ = read(tmp_path / "a.csv", content, {"header": "3"})
    assert len(kept) == 30
    with pytest.raises(EmpuError, match="no line 99"):
        read(tmp_path / "a.csv", content, {"header": "99"})
    with pytest.raises(EmpuError, match="is not a line"):
        read(tmp_path / "a.csv", content, {"header": "top"})


def test_an_unnamed_first_column_is_no_title(tmp_path: Path) -> None:
    content = ",text,label\n" + "".join(f"{i},{text},{label}\n" for i, (text, label) in enumerate(ROWS))
    kept, _, _ = read(tmp_path / "a.csv", content)
    assert len(kept) == 30


def test_a_stray_mark_before_a_label_costs_its_line(tmp_path: Path) -> None:
    rows = list(ROWS)
    rows[9], rows[15] = (rows[9][0], '"' + rows[9][1]), (rows[15][0], rows[15][1] + '"')
    kept, excluded, _ = read(tmp_path / "a.csv", table(rows))
    assert (len(kept), [record.number for record in excluded]) == (29, [11])
    assert not any("\n" in str(row.label) for row in kept)


def test_cells_in_single_marks_are_read_without_them(tmp_path: Path) -> None:
    kept, _, _ = read(tmp_path / "a.csv", table([(f"'{text}, please'", f"'{label}'") for text, label in ROWS]))
    assert kept[0].fields == {"text": f"{ROWS[0][0]}, please", "label": ROWS[0][1]}


def test_an_apostrophe_at_the_start_of_some_cells_is_text(tmp_path: Path) -> None:
    kept, _, _ = read(tmp_path / "a.csv", table([*ROWS, ("'Tis not here'", "parcel")]))
    assert kept[-1].question() == "'Tis not here'"


def test_misplaced_marks_after_a_stray_one_that_swallowed_many_lines_are_found(tmp_path: Path) -> None:
    rows = sentences(400)
    rows[2] = ('"' + rows[2][0], rows[2][1])
    rows[200] = ('"He said "no" and left"', rows[200][1])
    rows[390] = (rows[390][0] + '"', rows[390][1])
    kept, excluded, _ = read(tmp_path / "a.csv", table(rows))
    assert [record.number for record in excluded] == [4, 202]
    assert len(kept) == 398
