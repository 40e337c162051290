"""The inputs of ../shared/cases: each gives the rows that a person sees in it, or a sentence that names the fault."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from empu.data.checks import check_rows
from empu.data.prompts import task_of
from empu.data.reader import DataFiles, read_rows
from empu.data.report import DataReport, build_report
from empu.data.rows import Kind, Row
from empu.data.splits import split_rows
from empu.errors import EmpuError

pytest.importorskip("rensa")
pytest.importorskip("pyarrow")
pytest.importorskip("openpyxl")

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
LABELS = {"parcel", "refund", "broken"}


@dataclass(frozen=True)
class Expected:
    """Rows used and records excluded, and a part of what is said; for ``error`` nothing is used."""

    rows: int = 0
    excluded: int = 0
    said: str = ""
    error: str = ""


EXPECTED = {
    "plain.csv": Expected(30),
    "stray-quotes.tsv": Expected(30),
    "unpaired-preference.jsonl": Expected(10, 10, "excluded: 10 rows, marked as bad"),
    "answer-as-messages.jsonl": Expected(20),
    "answer-good-and-bad.json": Expected(20, said="each 'output' is a better and a worse answer"),
    "context-column.jsonl": Expected(20, said="context = column 'context'"),
    "system-column.json": Expected(20, said="system = column 'system'"),
    "shared-system-message.jsonl": Expected(20),
    "json-keyed-by-data.jsonl": Expected(60),
    "json-in-messages.jsonl": Expected(30),
    "train-flag.jsonl": Expected(20),
    "space-after-comma.csv": Expected(30),
    "label-case.csv": Expected(30, said="labels that look alike are separate classes: 'parcel' (8 rows) and 'PARCEL'"),
    "label-nfc-nfd.csv": Expected(30),
    "excel-x000d.xlsx": Expected(30),
    "excel-hidden-sheets.xlsx": Expected(30, said="hidden sheets are not used: old_do_not_use, backup"),
    "header-repeated.csv": Expected(30, 2, "excluded: 2 rows, repeated header"),
    "classlabel-names.parquet": Expected(30, said="the names of 'label' are from the file's metadata"),
    "gbk.csv": Expected(16, said="read as gb18030"),
    "cp1251.csv": Expected(14, said="read as cp1251"),
    "emoticons.csv": Expected(12),
    "operators.csv": Expected(48),
    "prompt-as-messages.jsonl": Expected(20),
    "preference-conversational.jsonl": Expected(20),
    "preference-sharegpt.json": Expected(20),
    "content-parts-without-type.jsonl": Expected(20),
    "label-as-list.jsonl": Expected(30),
    "excel-merged-labels.xlsx": Expected(30),
    "group-in-dev.jsonl": Expected(20),
    "group-in-test.jsonl": Expected(115),
    "pandas-default.json": Expected(30),
    "excel-title-rows.xlsx": Expected(30, said="the header is in row 4"),
    "title-above-header.csv": Expected(30, said="the header is in line 4"),
    "trailing-comma.csv": Expected(30),
    "nested-nanoseconds.parquet": Expected(30),
    "excel-parts-at-root.xlsx": Expected(12),
    "excel-extension.xlsx": Expected(30),
    "tool-calls.jsonl": Expected(error="row 1, the first of 20 alike: message 2 calls a tool"),
    "excel-formulas.xlsx": Expected(error="is a formula whose value is not stored in the file"),
    "one-row-classes.csv": Expected(error="each label has one row"),
    "rasa-nlu.yml": Expected(error="is a YAML file"),
}


def case(name: str) -> DataFiles:
    path = CASES / name
    if not path.is_file():
        pytest.skip("the folder ../shared/cases is not beside this clone")
    return read_rows(path)


def report_of(name: str) -> DataReport:
    return build_report(split_rows(check_rows(case(name))))


def rows_of(name: str) -> list[Row]:
    return list(case(name).rows())


@pytest.mark.parametrize("name", EXPECTED)
def test_case_gives_its_rows_or_names_its_fault(name: str, recwarn: pytest.WarningsRecorder) -> None:
    expected = EXPECTED[name]
    if expected.error:
        with pytest.raises(EmpuError) as caught:
            report_of(name)
        assert expected.error in str(caught.value)
        assert "add more" not in str(caught.value)
        return
    report = report_of(name)
    assert (report.kept, len(report.exclusions)) == (expected.rows, expected.excluded)
    assert report.read == expected.rows + expected.excluded
    assert expected.said in "\n".join(report.lines())
    assert not recwarn.list


@pytest.mark.parametrize(
    "name",
    [
        "plain.csv",
        "stray-quotes.tsv",
        "space-after-comma.csv",
        "excel-hidden-sheets.xlsx",
        "header-repeated.csv",
        "classlabel-names.parquet",
        "label-as-list.jsonl",
        "excel-merged-labels.xlsx",
        "pandas-default.json",
        "excel-title-rows.xlsx",
        "title-above-header.csv",
        "trailing-comma.csv",
        "nested-nanoseconds.parquet",
        "excel-extension.xlsx",
    ],
)
def test_variants_of_the_plain_file_have_its_three_labels(name: str) -> None:
    assert {row.label for row in rows_of(name)} == LABELS


def test_answers_are_the_text_of_messages_and_not_their_json() -> None:
    rows = rows_of("answer-as-messages.jsonl")
    assert all(str(row.fields["completion"]).startswith("Open the ") for row in rows)


def test_a_good_and_a_bad_answer_are_a_preference() -> None:
    rows = rows_of("answer-good-and-bad.json")
    assert {row.kind for row in rows} == {Kind.PREFERENCE}
    assert all(row.fields["rejected"] == "No idea." for row in rows)


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("shared-system-message.jsonl", "You guide people through the console."),
        ("system-column.json", "Speak like a pirate."),
        ("prompt-as-messages.jsonl", "You help with the console."),
        ("content-parts-without-type.jsonl", "Be brief."),
    ],
)
def test_a_system_message_that_all_rows_share_is_the_instruction(name: str, instruction: str) -> None:
    rows = rows_of(name)
    assert task_of(rows[0].kind, rows).instruction == instruction


def test_json_answers_in_messages_have_a_schema() -> None:
    rows = rows_of("json-in-messages.jsonl")
    schema = task_of(rows[0].kind, rows).schema
    assert schema is not None
    assert list(schema["properties"]) == ["desk", "urgent"]


def test_objects_keyed_by_data_take_new_keys() -> None:
    rows = rows_of("json-keyed-by-data.jsonl")
    schema: Any = task_of(rows[0].kind, rows).schema
    assert schema["properties"]["items"]["additionalProperties"] == {"type": "integer"}


def test_messages_that_are_not_to_be_learnt_have_the_weight_0() -> None:
    for row in rows_of("train-flag.jsonl"):
        assert [message.get("weight") for message in row.fields["messages"]] == [None, 0, None, None]


def test_large_groups_of_near_duplicates_are_trained_on() -> None:
    assert report_of("group-in-dev.jsonl").parts["train"] >= 14
    report = report_of("group-in-test.jsonl")
    assert all(parts["train"] >= 12 for parts in report.classes.values())
    assert not report.small_classes


def test_labels_in_two_unicode_forms_are_one_class() -> None:
    assert len({row.label for row in rows_of("label-nfc-nfd.csv")}) == 3


def test_an_escaped_line_end_of_excel_is_a_line_end() -> None:
    rows = rows_of("excel-x000d.xlsx")
    assert all("\n" in row.question() and "_x000D_" not in row.question() for row in rows)
