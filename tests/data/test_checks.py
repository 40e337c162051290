"""Each fault of the data is result, and every row that is left out is named with its reason."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from empu.data.checks import CheckLimits, CheckResult, check_rows
from empu.data.reader import read_rows, separate_test_files
from empu.data.rows import DataError
from tests.data.generated_rows import rows, sentence, write

pytest.importorskip("rensa")

GOOD = list(rows(60))


def checked(tmp_path: Path, extra: list[tuple[str, str]], **settings: object) -> CheckResult:
    return check_rows(read_rows(write(tmp_path / "rows.csv", [*GOOD, *extra])), limits=CheckLimits(**settings))  # type: ignore[arg-type]


def reasons(result: CheckResult) -> dict[int, str]:
    return {record.number: record.reason.replace(result.data.path, "FILE") for record in result.exclusions}


def test_good_rows_are_all_kept(tmp_path: Path) -> None:
    result = checked(tmp_path, [])
    assert result.kept.all()
    assert result.exclusions == ()
    assert [row.fields["text"] for _, row in result.rows()] == [text for text, _ in GOOD]
    assert result.class_sizes() == {"class 0": 20, "class 1": 20, "class 2": 20}


def test_duplicates_are_named_with_the_row_that_stays(tmp_path: Path) -> None:
    text, label = GOOD[0]
    result = checked(tmp_path, [(text, label), ("  " + text.upper(), label)])
    assert reasons(result) == {
        62: "it is the same as FILE:2",
        63: "but for case and spaces it is the same as FILE:2",
    }
    assert result.kept[0]
    assert result.reasons == {"duplicate": 1, "same text": 1}
    assert result.exclusions[0].row_id == next(result.rows())[1].id


def test_contradictory_labels_leave_out_both(tmp_path: Path) -> None:
    text, _ = GOOD[0]
    result = checked(tmp_path, [(text.title() + " ", "class 1"), ("another thing entirely", "class 2")])
    assert reasons(result) == {
        2: "the same text is labelled 'class 0' here and 'class 1' in FILE:62",
        62: "the same text is labelled 'class 1' here and 'class 0' in FILE:2",
    }


def test_empty_and_overlong_rows_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [*GOOD, ("", "class 0"), ("word " * 50, "class 0"), ("fine", " ")])
    result = check_rows(read_rows(path), count_tokens=lambda text: len(text.split()), limits=CheckLimits(max_tokens=20))
    assert reasons(result) == {
        62: "the text is empty",
        63: "it is too long: 52 tokens, and 20 fit",
        64: "the label is empty",
    }
    assert result.reasons == {"empty": 2, "too long": 1}
    assert result.scan.tokens[0] == 14


def test_near_duplicates_are_linked_and_kept(tmp_path: Path) -> None:
    words = sentence(random.Random(5), 25)
    result = checked(tmp_path, [(words, "class 0"), (words + " please", "class 0"), (words + " please now", "class 1")])
    assert result.kept.all()
    assert result.clusters[-3:].tolist() == [60, 60, 60]
    assert result.clusters[:60].tolist() == list(range(60))


def test_training_rows_that_stand_in_the_test_file_are_left_out(tmp_path: Path) -> None:
    long = sentence(random.Random(6), 25)
    train = write(tmp_path / "train.csv", [*GOOD, (long, "class 1")])
    test = write(
        tmp_path / "test.csv", [(GOOD[3][0].title(), "class 0"), (long + " now", "class 1"), ("new", "class 2")]
    )
    result = check_rows(read_rows(train), read_rows(test))
    named = {record.number: record.reason.replace(str(test), "TEST") for record in result.exclusions}
    assert named == {
        5: "its text is in the test part, TEST:2",
        62: "its text is a near-duplicate of a row of the test part, TEST:3",
    }
    assert [row.number for row in result.test_rows()] == [2, 3, 4]
    lenient = check_rows(read_rows(train), read_rows(test), limits=CheckLimits(drop_near_leaks=False))
    assert [record.number for record in lenient.exclusions] == [5]


def test_of_many_rows_alike_none_stays_beside_the_one_in_the_test_file(tmp_path: Path) -> None:
    """More than are compared pair by pair."""
    words = sentence(random.Random(8), 40)
    alike = [f"{words} number {i}" for i in range(60)]
    train = write(tmp_path / "train.csv", [*GOOD, *((text, "class 1") for text in alike[:59])])
    test = write(tmp_path / "test.csv", [(alike[59], "class 1"), ("new", "class 2")])
    result = check_rows(read_rows(train), read_rows(test))
    assert {record.number for record in result.exclusions} == set(range(62, 121))
    assert check_rows(read_rows(train), read_rows(test), limits=CheckLimits(drop_near_leaks=False)).near_leaks == 59


def test_a_folder_with_train_and_test_files_knows_its_test_part(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", GOOD)
    write(tmp_path / "test.csv", rows(12, seed=9))
    data, test = separate_test_files(read_rows(tmp_path))
    assert test is not None
    assert [Path(table.source).name for table in data.tables] == ["train.csv"]
    assert len(list(check_rows(data, test).test_rows())) == 12
    (tmp_path / "train.csv").rename(tmp_path / "all.csv")
    assert separate_test_files(read_rows(tmp_path))[1] is None


def test_personal_data_is_counted_and_masked_and_stays(tmp_path: Path) -> None:
    result = checked(tmp_path, [("write to joe.bloggs@example.com or jane@example.com", "class 0")])
    assert result.kept.all()
    assert (result.scan.pii_rows["email"], result.scan.pii_matches["email"]) == (1, 2)
    (first, _) = result.scan.pii_examples["email"]
    assert first == f"jo•.••••••@•••••••.•om ({result.data.path}:62)"


FATAL = {
    "three-rows": (GOOD[:3], "has 3 usable rows, and at least 10 are needed"),
    "one-class": ([(text, "same") for text, _ in GOOD], "have the label 'same'; add another class"),
    "all-alike": ([GOOD[0]] * 40, "has 1 usable rows of 40 (excluded: 39 duplicate)"),
    "all-contradictory": (
        [(text, label) for text, _ in GOOD for label in "ab"],
        "has 0 usable rows of 120 (excluded: 120 contradictory)",
    ),
}


@pytest.mark.parametrize("name", FATAL)
def test_too_little_data_is_a_sentence(tmp_path: Path, name: str) -> None:
    table_rows, expected = FATAL[name]
    with pytest.raises(DataError) as caught:
        check_rows(read_rows(write(tmp_path / "rows.csv", table_rows)))
    assert expected in str(caught.value)


def test_a_test_file_of_another_kind_or_without_rows_is_refused(tmp_path: Path) -> None:
    train = read_rows(write(tmp_path / "rows.csv", GOOD))
    other = tmp_path / "pairs.jsonl"
    other.write_text(json.dumps({"prompt": "a", "completion": "b"}))
    with pytest.raises(DataError, match="holds prompt,completion rows and"):
        check_rows(train, read_rows(other))
    empty = write(tmp_path / "test.csv", [(" ", "class 1")])
    with pytest.raises(DataError, match=r"test\.csv has no usable rows"):
        check_rows(train, read_rows(empty))


def test_a_file_that_changes_in_between_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", GOOD)
    result = check_rows(read_rows(path))
    for changed in ([*GOOD[:5], ("other", "class 0"), *GOOD[6:]], GOOD[:-1], [*GOOD, ("more", "class 0")]):
        write(path, changed)
        with pytest.raises(DataError, match="changed while it was being used"):
            list(result.rows())


def test_banking77_holds_what_is_known_of_it(shared_data: Path) -> None:
    data, test = separate_test_files(read_rows(shared_data / "banking77"))
    result = check_rows(data, test)
    assert (len(result.kept), len(result.test_kept)) == (10_003, 3_080)
    assert result.test_kept.all()
    assert len(result.class_sizes()) == 77
    assert result.reasons["in the test part"] + result.reasons["same text"] == 11
    assert 150 < result.reasons["near a row of the test part"] < 240
    assert result.reasons["contradictory"] == 0
